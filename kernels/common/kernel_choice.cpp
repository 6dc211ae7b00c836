// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/kernel_choice.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <mutex>
#include <set>

#include "kernels/common/cuda/backend.h"

namespace klab::kernels {
namespace {

void warn_once(const std::string& op, const std::string& reason) {
  static std::mutex mutex;
  static std::set<std::string> warned;
  const std::lock_guard lock(mutex);
  if (!warned.insert(op).second) return;
  TORCH_WARN(op, ": using a composed form on CUDA, because the kernel cannot run: ", reason);
}

}  // namespace

std::string cuda_unsupported_reason(at::TensorList tensors) {
  for (const at::Tensor& x : tensors) {
    if (x.defined() && x.scalar_type() == at::kDouble) return "it computes in float32 and a tensor is float64";
  }
  return cuda::backend().unsupported_reason(tensors.front().device());
}

Implementation choose_implementation(const char* op, Implementation requested, const at::Tensor& x,
                                     const UnsupportedReasons& unsupported,
                                     std::initializer_list<Implementation> forms) {
  TORCH_CHECK_NOT_IMPLEMENTED(requested != Implementation::cuda || unsupported.cuda.empty(), op,
                              ": the CUDA kernel cannot run: ", unsupported.cuda);
  TORCH_CHECK_NOT_IMPLEMENTED(requested != Implementation::cpu || unsupported.cpu.empty(), op,
                              ": the CPU kernel cannot run: ", unsupported.cpu);
  if (requested == Implementation::cuda || requested == Implementation::cpu) return requested;
  if (requested != Implementation::automatic) {
    TORCH_CHECK_NOT_IMPLEMENTED(std::find(forms.begin(), forms.end(), requested) != forms.end(), op,
                                ": there is no implementation '", to_string(requested), "' of it");
    return requested;
  }
  if (x.is_cuda() && unsupported.cuda.empty()) return Implementation::cuda;
  if (x.is_cuda() && x.scalar_type() != at::kDouble) warn_once(op, unsupported.cuda);
  return unsupported.cpu.empty() ? Implementation::cpu : *forms.begin();
}

}  // namespace klab::kernels
