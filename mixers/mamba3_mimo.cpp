// SPDX-License-Identifier: Apache-2.0
#include "mixers/mamba3_mimo.h"

#include "mixers/registry.h"

namespace klab {

void Mamba3Mimo::Options::visit(Fields& fields) {
  Mamba3::Options::visit(fields);
  fields("rank", rank, {1, 16}, "writes and reads per token");
}

MixerEntry mamba3_mimo_mixer() {
  return mixer_entry<Mamba3Mimo>("mamba3_mimo", "Mamba-3 with several writes and reads per token",
                                 "recurrence/scalar/accumulate");
}

}  // namespace klab
