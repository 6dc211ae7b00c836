// SPDX-License-Identifier: Apache-2.0
#include "mixers/gated_deltaproduct.h"

#include "mixers/registry.h"

namespace klab {

void GatedDeltaProduct::Options::visit(Fields& fields) {
  DeltaOptions::visit(fields);
  fields("writes", writes, {1, 16}, "writes per token");
}

MixerEntry gated_deltaproduct_mixer() {
  return mixer_entry<GatedDeltaProduct>(
      "gated_deltaproduct", "gated DeltaProduct: one decay per head, several writes of the delta rule per token",
      "recurrence/scalar/delta");
}

}  // namespace klab
