// SPDX-License-Identifier: Apache-2.0
#include "mixers/lightning.h"

#include <torch/nn/module.h>

#include "kernels/common/checks.h"
#include "mixers/registry.h"

namespace klab {

using torch::Tensor;

// The public layer's small terms keep the last layer's decay from vanishing, and one of a single layer defined.
Lightning::Lightning(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options, {.update = kernels::Update::accumulate, .norm_over_heads = true}),
      layer_factor_(1 - static_cast<double>(shape.layer) / (static_cast<double>(shape.layers - 1) + 1e-5) + 1e-5) {}

void Lightning::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences&, State*) const {
  const auto wide =
      x.tensor().options().dtype(kernels::accumulation_type(x.tensor().scalar_type())).requires_grad(false);
  const Tensor slope = torch::exp2(-8.0 / static_cast<double>(value_heads_) * torch::arange(1, value_heads_ + 1, wide));
  in.g = (-layer_factor_ * slope).expand({x.tensor().size(0), x.tensor().size(1), value_heads_});
  in.scale = 1;  // the norm follows
}

MixerEntry lightning_mixer() {
  return mixer_entry<Lightning>("lightning", "lightning attention: accumulates, a fixed decay per head and layer",
                                "recurrence/scalar/accumulate");
}

}  // namespace klab
