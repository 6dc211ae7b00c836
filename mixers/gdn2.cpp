// SPDX-License-Identifier: Apache-2.0
#include "mixers/gdn2.h"

#include <torch/nn/module.h>

#include "kernels/common/checks.h"
#include "kernels/norms/norms.h"
#include "mixers/registry.h"

namespace klab {

using torch::Tensor;

Gdn2::Gdn2(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options, {kernels::Update::dplr}),
      allow_neg_eigval_(options.allow_neg_eigval),
      decay_(*this, width_, value_heads_, key_dim_, options.full_rank_decay(), options.lower_bound),
      b_proj_(register_module("b_proj", Linear(width_, value_heads_ * key_dim_))),
      w_proj_(register_module("w_proj", Linear(width_, value_heads_ * value_dim_))) {}

void Gdn2::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences&, State*) const {
  const auto wide = kernels::accumulation_type(x.tensor().scalar_type());
  const Tensor k = for_value_heads(kernels::l2norm(in.k.to(wide)));  // [B, T, HV, K]
  const Tensor b = torch::sigmoid(by_value_head(b_proj_->forward(x)).to(wide));
  const Tensor w = torch::sigmoid(by_value_head(w_proj_->forward(x)).to(wide));
  in.q = for_value_heads(kernels::l2norm(in.q));
  in.k = k;
  in.v = (w * in.v).to(x.tensor().scalar_type());
  in.g = decay_.value(x);
  in.a = torch::exp(in.g) * (allow_neg_eigval_ ? 2 * b : b) * k;
  in.b = -k;
}

MixerEntry gdn2_mixer() {
  return mixer_entry<Gdn2>("gdn2", "Gated DeltaNet 2: delta rule, erase and write gates per channel",
                           "recurrence/channel/dplr");
}

}  // namespace klab
