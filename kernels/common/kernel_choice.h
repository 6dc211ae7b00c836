// Which code computes an operator, for the operators that have kernels of their own and forms composed of ATen's.
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

/// Why CUDA kernels cannot run on these tensors, all on the device of the first (undefined ones do not count), or "".
std::string cuda_unsupported_reason(at::TensorList tensors);

/// `requested`, or for `automatic` the kernel of x's device. Where that is unsupported, `automatic` is the first of the
/// composed `forms`, on CUDA with a warning, once per operator. Throws c10::NotImplementedError in the name of `op` for
/// a requested implementation that cannot run.
Implementation choose_implementation(const char* op, Implementation requested, const at::Tensor& x,
                                     const UnsupportedReasons& unsupported,
                                     std::initializer_list<Implementation> forms);

/// The kernels that an implementation stands for; null where it is a composed form.
template <class Kernels>
const Kernels* kernels_of(Implementation implementation, const Kernels& cpu, const Kernels& cuda) {
  if (implementation == Implementation::cuda) return &cuda;
  return implementation == Implementation::cpu ? &cpu : nullptr;
}

}  // namespace klab::kernels
