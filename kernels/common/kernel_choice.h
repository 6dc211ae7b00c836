// SPDX-License-Identifier: Apache-2.0
// Choice of the implementation, for operators that have hand-written kernels and forms composed of ATen operators.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <string>

#include "kernels/common/implementation.h"

namespace klab::kernels {

/// Why the kernels cannot run on a call's tensors; "" where they can.
struct UnsupportedReasons {
  std::string cuda, cpu;
};

/// Why CUDA kernels cannot run on these tensors, or "". Assumes all defined tensors are on the device of the first.
std::string cuda_unsupported_reason(at::TensorList tensors);

/// `requested`, or for `automatic` the kernel for x's device. If that is unsupported, `automatic` becomes the first of
/// the composed `forms`, on CUDA with one warning per operator. Throws c10::NotImplementedError, whose message begins
/// with `op`, for a requested implementation that cannot run.
Implementation choose_implementation(const char* op, Implementation requested, const at::Tensor& x,
                                     const UnsupportedReasons& unsupported,
                                     std::initializer_list<Implementation> forms);

/// The kernels of an implementation; null for a composed form.
template <class Kernels>
const Kernels* kernels_of(Implementation implementation, const Kernels& cpu, const Kernels& cuda) {
  if (implementation == Implementation::cuda) return &cuda;
  return implementation == Implementation::cpu ? &cpu : nullptr;
}

}  // namespace klab::kernels
