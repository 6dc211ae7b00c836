// The short convolution on hand-written kernels: what those of the CPU and of CUDA have in common. Between
// short_conv.cpp, short_conv_cpu.cpp and short_conv_cuda.cpp.
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

/// Kernels of one device. All take checked inputs and leave autograd alone.
struct FusedShortConv {
  ShortConvOutputs (*forward)(const ShortConvInputs& inputs);
  /// The gradients in the places of the inputs, in their dtypes. `d_y` is contiguous, `d_final_state` too or undefined.
  ShortConvInputs (*backward)(const ShortConvInputs& inputs, const at::Tensor& d_y, const at::Tensor& d_final_state);
};

/// CUDA's read cu_seqlens on the device only.
extern const FusedShortConv cpu_short_conv, cuda_short_conv;

/// Why the kernels cannot run on these inputs, or "".
std::string short_conv_cpu_unsupported_reason(const ShortConvInputs& inputs);
std::string short_conv_cuda_unsupported_reason(const ShortConvInputs& inputs);

}  // namespace klab::kernels
