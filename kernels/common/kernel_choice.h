// Which code computes an operator, for the operators that have kernels of their own and forms composed of ATen's.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <string>

#include "kernels/common/implementation.h"

namespace klab::kernels {

/// Why the kernels cannot take a call's tensors; "" where they can.
struct UnsupportedReasons {
  std::string cuda, cpu;
};

/// Why the CUDA kernels cannot take these tensors, all on the device of the first (undefined ones do not count), or "".
std::string cuda_unsupported_reason(std::initializer_list<at::Tensor> tensors);

/// `wanted`, or for `automatic` the kernel of x's device, or the first of the composed `forms` where it unsupported_reason, on
/// CUDA with a warning, once per operator. Throws c10::NotImplementedError in the name of `op` for what cannot run.
Implementation choose_implementation(const char* op, Implementation wanted, const at::Tensor& x,
                                     const UnsupportedReasons& unsupported_reason, std::initializer_list<Implementation> forms);

}  // namespace klab::kernels
