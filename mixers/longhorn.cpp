// SPDX-License-Identifier: Apache-2.0
#include "mixers/longhorn.h"

#include <torch/nn/module.h>

#include "kernels/common/checks.h"
#include "mixers/registry.h"

namespace klab {

Longhorn::Longhorn(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options, {kernels::Update::delta}),
      delta_proj_(register_module("delta_proj", Linear(width_, value_heads_))) {}

void Longhorn::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences&, State*) const {
  const auto wide = kernels::accumulation_type(x.tensor().scalar_type());
  const torch::Tensor delta = torch::sigmoid(delta_proj_->forward(x).to(wide));  // [B, T, HV]
  const torch::Tensor length = for_value_heads(in.k.to(wide).square().sum(-1, /*keepdim=*/true)).squeeze(-1);
  in.beta = delta / (1 + delta * length);
}

MixerEntry longhorn_mixer() {
  return mixer_entry<Longhorn>("longhorn",
                               "Longhorn: delta rule, step size decreases with the norm of the key, no decay",
                               "recurrence/none/delta");
}

}  // namespace klab
