// SPDX-License-Identifier: Apache-2.0
// The interface between short_conv.cpp and the hand-written kernels (short_conv_cpu.cpp, short_conv_cuda.cpp).
#pragma once

#include <string>

#include "kernels/common/arguments.h"
#include "kernels/short_conv/short_conv.h"

namespace klab::kernels {

template <InputsOf<ShortConvInputs> Self, class Visit>
void each_argument(Self& in, Visit&& visit) {
  using enum Size;
  visit(TensorArgument{"x", Role::operand, /*required=*/true, Shape(B, T, D)}, in.x);
  visit(TensorArgument{"weight", Role::parameter, /*required=*/true, Shape(D, W)}, in.weight);
  visit(TensorArgument{"bias", Role::parameter, false, Shape(D)}, in.bias);
  visit(Option{"activation"}, in.activation);
  visit(TensorArgument{"initial_state", Role::state, false, Shape(N, past, D)}, in.initial_state);
  visit(TensorArgument{"cu_seqlens", Role::offsets}, in.cu_seqlens);
}

/// Kernels of one device. Inputs must be checked. Below autograd.
struct FusedShortConv {
  ShortConvOutputs (*forward)(const ShortConvInputs& inputs);
  /// The gradients, each in the field and the dtype of its input. `d_y` is contiguous, `d_final_state` contiguous or
  /// undefined.
  ShortConvInputs (*backward)(const ShortConvInputs& inputs, const at::Tensor& d_y, const at::Tensor& d_final_state);
};

/// The CUDA kernels read cu_seqlens on the device only.
extern const FusedShortConv cpu_short_conv, cuda_short_conv;

/// Why the kernels cannot run on these inputs, or "".
std::string short_conv_cpu_unsupported_reason(const ShortConvInputs& inputs);
std::string short_conv_cuda_unsupported_reason(const ShortConvInputs& inputs);

}  // namespace klab::kernels
