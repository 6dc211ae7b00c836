// The short convolution on hand-written kernels: what those of the CPU and of CUDA have in common. Between
// short_conv.cpp, short_conv_cpu.cpp and short_conv_cuda.cpp.
#pragma once

#include <string>
#include <vector>

#include "kernels/short_conv/short_conv.h"

namespace klab::kernels {

/// Kernels of one device. All take checked inputs and leave autograd alone.
struct FusedShortConv {
  const char* name;  ///< "CPU"
  ShortConvOutputs (*forward)(const ShortConvInputs& inputs);
  /// The gradients in the places of the inputs, in their dtypes. `d_y` is contiguous, `d_final_state` too or undefined.
  ShortConvInputs (*backward)(const ShortConvInputs& inputs, const at::Tensor& d_y, const at::Tensor& d_final_state);
};

/// CUDA's look at cu_seqlens on the device only.
extern const FusedShortConv cpu_short_conv, cuda_short_conv;

/// Why the kernels cannot take these inputs, or "".
std::string short_conv_cpu_unsupported_reason(const ShortConvInputs& inputs);
std::string short_conv_cuda_unsupported_reason(const ShortConvInputs& inputs);

/// Differentiable once.
ShortConvOutputs run_fused(const FusedShortConv& kernels, const ShortConvInputs& inputs);

}  // namespace klab::kernels
