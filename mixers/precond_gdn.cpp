// SPDX-License-Identifier: Apache-2.0
#include "mixers/precond_gdn.h"

#include <torch/nn/module.h>

#include "mixers/registry.h"

namespace klab {

PrecondGdn::PrecondGdn(const MixerShape& shape, const Options& options)
    : PreconditionedMixer(shape, options, options.squash), decay_(*this, width_, value_heads_) {}

void PrecondGdn::initialise(const at::Generator& generator) {
  decay_.initialise(generator);
  PreconditionedMixer::initialise(generator);
}

MixerEntry precond_gdn_mixer() {
  return mixer_entry<PrecondGdn>("precond_gdn", "Gated DeltaNet that writes along a preconditioned key",
                                 "recurrence/scalar/dplr");
}

}  // namespace klab
