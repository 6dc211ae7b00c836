// SPDX-License-Identifier: Apache-2.0
#include "mixers/kda.h"

#include <torch/nn/module.h>

#include "mixers/registry.h"

namespace klab {

Kda::Kda(const MixerShape& shape, const Options& options, int64_t writes)
    : LinearMixer(shape, options, {.update = kernels::Update::delta, .writes = writes}),
      beta_(*this, width_, writes * value_heads_, options.allow_neg_eigval),
      decay_(*this, width_, value_heads_, key_dim_, options.full_rank_decay(), options.lower_bound) {}

void Kda::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences&, State*) const {
  in.qk_l2norm = true;
  beta_.give_to(in, x);
  decay_.give_to(in, x);
}

MixerEntry kda_mixer() {
  return mixer_entry<Kda>("kda", "Kimi Delta Attention: delta rule, decay per channel", "recurrence/channel/delta");
}

}  // namespace klab
