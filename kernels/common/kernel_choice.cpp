#include "kernels/common/kernel_choice.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <mutex>
#include <set>

#include "kernels/common/cuda/backend.h"

namespace klab::kernels {
namespace {

void warn_once(const std::string& op, const std::string& declined) {
  static std::mutex mutex;
  static std::set<std::string> warned;
  const std::lock_guard lock(mutex);
  if (!warned.insert(op).second) return;
  TORCH_WARN(op, ": taking a composed form on CUDA, because the kernel cannot run: ", declined);
}

}  // namespace

std::string cuda_unsupported_reason(std::initializer_list<at::Tensor> tensors) {
  for (const at::Tensor& x : tensors) {
    if (x.defined() && x.scalar_type() == at::kDouble) return "it computes in float32 and a tensor is float64";
  }
  return cuda::backend().unsupported_reason(tensors.begin()->device());
}

Implementation choose_implementation(const char* op, Implementation wanted, const at::Tensor& x,
                                     const UnsupportedReasons& unsupported_reason, std::initializer_list<Implementation> forms) {
  TORCH_CHECK_NOT_IMPLEMENTED(wanted != Implementation::cuda || unsupported_reason.cuda.empty(), op,
                              ": the CUDA kernel cannot run: ", unsupported_reason.cuda);
  TORCH_CHECK_NOT_IMPLEMENTED(wanted != Implementation::cpu || unsupported_reason.cpu.empty(), op,
                              ": the CPU kernel cannot run: ", unsupported_reason.cpu);
  if (wanted == Implementation::cuda || wanted == Implementation::cpu) return wanted;
  if (wanted != Implementation::automatic) {
    TORCH_CHECK_NOT_IMPLEMENTED(std::find(forms.begin(), forms.end(), wanted) != forms.end(), op,
                                ": there is no implementation '", to_string(wanted), "' of it");
    return wanted;
  }
  if (x.is_cuda() && unsupported_reason.cuda.empty()) return Implementation::cuda;
  if (x.is_cuda() && x.scalar_type() != at::kDouble) warn_once(op, unsupported_reason.cuda);
  return unsupported_reason.cpu.empty() ? Implementation::cpu : *forms.begin();
}

}  // namespace klab::kernels
