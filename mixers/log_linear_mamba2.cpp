// SPDX-License-Identifier: Apache-2.0
// Mamba2 with log-linear attention.
#include "mixers/log_linear.h"
#include "mixers/mamba2.h"
#include "mixers/registry.h"

namespace klab {

MixerEntry log_linear_mamba2_mixer() {
  return mixer_entry<LogLinear<Mamba2>>("log_linear_mamba2", "Mamba2 with a memory per level of distance",
                                        "recurrence/scalar/accumulate");
}

}  // namespace klab
