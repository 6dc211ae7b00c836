// SPDX-License-Identifier: Apache-2.0
#include "mixers/kda_product.h"

#include <torch/nn/module.h>

#include "mixers/registry.h"

namespace klab {

void KdaProduct::Options::visit(Fields& fields) {
  ChannelDecayOptions::visit(fields);
  fields("writes", writes, {1, 16}, "writes per token");
}

KdaProduct::KdaProduct(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options, {.update = kernels::Update::delta, .writes = options.writes}),
      beta_(*this, width_, options.writes * value_heads_, options.allow_neg_eigval),
      decay_(*this, width_, value_heads_, key_dim_, full_rank_gates_, options.lower_bound) {}

void KdaProduct::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences&, State*) const {
  in.qk_l2norm = true;
  beta_.give_to(in, x);
  in.beta = in.beta.reshape({in.v.size(0), in.v.size(1), value_heads_});
  decay_.give_to(in, x);
}

MixerEntry kda_product_mixer() {
  return mixer_entry<KdaProduct>("kda_product", "KDA with several writes of the delta rule per token",
                                 "recurrence/channel/delta");
}

}  // namespace klab
