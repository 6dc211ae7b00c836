// SPDX-License-Identifier: Apache-2.0
#include "mixers/comba.h"

#include <torch/nn/module.h>

#include "kernels/common/checks.h"
#include "kernels/norms/norms.h"
#include "mixers/registry.h"

namespace klab {

using torch::Tensor;

Comba::Comba(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options, {kernels::Update::dplr}),
      beta_(*this, width_, value_heads_, options.allow_neg_eigval),
      decay_(*this, width_, value_heads_),
      decay_of_p_(register_parameter("decay", new_wide_parameter({value_heads_}, 1))),
      D_(register_parameter("D", new_wide_parameter({value_heads_}, 1))) {}

void Comba::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences&, State*) const {
  const auto wide = kernels::accumulation_type(x.tensor().scalar_type());
  const Tensor k = for_value_heads(kernels::l2norm(in.k.to(wide)));  // [B, T, HV, K]
  const Tensor p = torch::sigmoid(decay_of_p_).unsqueeze(-1) * k;
  const Tensor beta = beta_.value(x).unsqueeze(-1);
  in.q = for_value_heads(kernels::l2norm(in.q.to(wide))) - D_.unsqueeze(-1) * p;
  in.g = decay_.value(x);
  in.k = beta * k;
  in.a = torch::exp(in.g).unsqueeze(-1) * p;
  in.b = -in.k;
}

MixerEntry comba_mixer() {
  return mixer_entry<Comba>("comba", "Comba: delta rule that erases along a scaled key, one decay per head",
                            "recurrence/scalar/dplr");
}

}  // namespace klab
