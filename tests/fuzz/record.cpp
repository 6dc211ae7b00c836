// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/record.h"

#include <filesystem>

#include "core/base/json.h"
#include "fuzz/target.h"

namespace klab::fuzz {

// The record of a run is read as it was written.
void record(std::string_view input) {
  const RunFolder folder{scratch_folder() + "/record"}, again{scratch_folder() + "/record_again"};
  for (const RunFolder& one : {folder, again}) std::filesystem::create_directories(one.path);
  scratch_file("record/record.json", input);
  RunRecord read = read_record(folder);
  const RunState state = read.state;
  if (is_over(state)) read.state = RunState::running;  // without a sync
  write_record(again, read);
  read.state = state;
  expect(to_object(read_record(again)) == to_object(read), "a record is read as another one");
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(record)
