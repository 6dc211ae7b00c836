// SPDX-License-Identifier: Apache-2.0
#include "core/model/token_shift.h"

#include <torch/nn/module.h>

#include "core/model/context_part.h"
#include "kernels/short_conv/short_conv.h"

namespace klab {

using torch::Tensor;

// A convolution of two taps, the last of which is zero.
Tensor preceding_token(const Tensor& x, const Sequences& sequences, State* state, const std::string& name) {
  kernels::ShortConvInputs in;
  in.x = x.flatten(2);
  const auto taps = torch::TensorOptions(x.scalar_type()).device(x.device());
  in.weight = torch::stack({torch::ones({in.x.size(2)}, taps), torch::zeros({in.x.size(2)}, taps)}, 1);
  in.cu_seqlens = sequences.cu_seqlens;
  if (state != nullptr) in.initial_state = state->tensors.at(name);
  if (sequences.part) in.initial_state = preceding_inputs(sequences, in.x, 1);
  const kernels::ShortConvOutputs out = kernels::short_conv(in);
  if (state != nullptr) state->tensors.at(name) = out.final_state;
  return out.y.view(x.sizes());
}

Tensor no_preceding_token(int64_t sequences, int64_t width, torch::ScalarType dtype, const torch::Device& device) {
  return torch::zeros({sequences, 1, width}, torch::TensorOptions(dtype).device(device));
}

}  // namespace klab
