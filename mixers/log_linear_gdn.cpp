// SPDX-License-Identifier: Apache-2.0
// Gated DeltaNet with log-linear attention.
#include "mixers/gdn.h"
#include "mixers/log_linear.h"
#include "mixers/registry.h"

namespace klab {

MixerEntry log_linear_gdn_mixer() {
  return mixer_entry<LogLinear<GatedDeltaNet>>("log_linear_gdn", "Gated DeltaNet with a memory per level of distance",
                                               "recurrence/scalar/delta");
}

}  // namespace klab
