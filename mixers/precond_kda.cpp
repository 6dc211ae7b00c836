// SPDX-License-Identifier: Apache-2.0
#include "mixers/precond_kda.h"

#include <torch/nn/module.h>

#include "mixers/registry.h"

namespace klab {

PrecondKda::PrecondKda(const MixerShape& shape, const Options& options)
    : PreconditionedMixer(shape, options, options.squash),
      decay_(*this, width_, value_heads_, key_dim_, options.full_rank_decay(), options.lower_bound) {}

void PrecondKda::initialise(const at::Generator& generator) {
  decay_.initialise(generator);
  PreconditionedMixer::initialise(generator);
}

MixerEntry precond_kda_mixer() {
  return mixer_entry<PrecondKda>("precond_kda", "KDA that writes along a preconditioned key",
                                 "recurrence/channel/dplr");
}

}  // namespace klab
