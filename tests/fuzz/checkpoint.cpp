// SPDX-License-Identifier: Apache-2.0
#include "core/io/checkpoint.h"

#include "core/train/stored_tensors.h"
#include "fuzz/safetensors_bytes.h"
#include "fuzz/target.h"

namespace klab::fuzz {

// A checkpoint (safetensors_bytes()) with the right checksum; the progress of its run is read as it was written.
void checkpoint(std::string_view input) {
  const std::string path = scratch_file("last.safetensors", with_checksum(safetensors_bytes(input)));
  TrainStatus status, again;
  restore_progress(load_checkpoint(path), status);
  Checkpoint written;
  store_progress(status, written);
  restore_progress(written, again);
  expect(again.step == status.step && again.best_step == status.best_step && again.seconds == status.seconds &&
             to_object(again.validation) == to_object(status.validation) &&
             to_object(again.best) == to_object(status.best),
         "the progress of a run is read as another one");
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(checkpoint)
