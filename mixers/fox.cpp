// SPDX-License-Identifier: Apache-2.0
#include "mixers/fox.h"

#include <torch/nn/module.h>

#include "kernels/common/checks.h"
#include "mixers/registry.h"

namespace klab {

using torch::Tensor;

Fox::Fox(const MixerShape& shape, const Options& options)
    : Attention(shape, options), f_proj_(register_module("f_proj", Linear(shape.width, heads_, /*with_bias=*/true))) {}

Tensor Fox::log_forget(const Tensor& x) const {
  const Tensor raw = f_proj_->forward(x);
  return torch::log_sigmoid(raw.to(kernels::accumulation_type(raw.scalar_type())));
}

void Fox::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  Attention::add_state(state, sequences, device);
  const auto dtype = kernels::accumulation_type(f_proj_->input_dtype());
  state.caches["g"] = torch::empty({sequences, 0, heads_}, torch::TensorOptions(dtype).device(device));
}

MixerEntry fox_mixer() {
  return mixer_entry<Fox>("fox", "Forgetting Transformer: softmax attention with a forget gate per head", "attention");
}

}  // namespace klab
