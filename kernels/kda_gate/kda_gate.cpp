#include "kernels/kda_gate/kda_gate.h"

#include <ATen/ATen.h>

#include "kernels/common/checks.h"
#include "kernels/common/cuda/backend.h"
#include "kernels/kda_gate/kda_gate_cuda.h"
#include "kernels/common/kernel_choice.h"

namespace klab::kernels {

void check_kda_gate(const char* op, const at::Tensor& raw, const at::Tensor& A_log, const at::Tensor& dt_bias,
                    std::optional<double> lower_bound) {
  TORCH_CHECK_VALUE(!lower_bound || (*lower_bound >= -5 && *lower_bound < 0), op,
                    ": lower_bound = ", lower_bound.value_or(0), " does not lie in [-5, 0)");
  TORCH_CHECK_VALUE(A_log.defined() || lower_bound, op, ": A_log is missing (only a lower bound makes it optional)");
  const int64_t H = raw.size(2), K = raw.dim() == 4 ? raw.size(3) : 1;
  if (dt_bias.defined()) check_tensor(op, "dt_bias", dt_bias, {H * K}, raw);
  if (A_log.defined()) check_tensor(op, "A_log", A_log, {H}, raw);
}

at::Tensor kda_gate(const at::Tensor& raw, const at::Tensor& A_log, const at::Tensor& dt_bias,
                    std::optional<double> lower_bound, Implementation implementation) {
  constexpr const char* kOp = "kda_gate";
  TORCH_CHECK_VALUE(raw.defined() && (raw.dim() == 3 || raw.dim() == 4), kOp,
                    ": raw must be [B, T, H] or [B, T, H, K]");
  check_tensor(kOp, "raw", raw, raw.sizes(), raw);
  check_kda_gate(kOp, raw, A_log, dt_bias, lower_bound);
  const UnsupportedReasons unsupported_reason{cuda_unsupported_reason({raw, A_log, dt_bias}), "there is none"};
  implementation = choose_implementation(kOp, implementation, raw, unsupported_reason, {Implementation::reference});
  if (implementation == Implementation::cuda) return kda_gate_cuda(raw, A_log, dt_bias, lower_bound);
  const at::ScalarType wide = accumulation_type(raw.scalar_type());

  at::Tensor x = raw.to(wide);
  if (dt_bias.defined()) x = x + dt_bias.to(wide).view(raw.sizes().slice(2));
  at::Tensor rate = at::ones({}, x.options());
  if (A_log.defined()) {
    rate = A_log.to(wide).exp();
    if (raw.dim() == 4) rate = rate.unsqueeze(-1);
  }
  // log(1 + e^x) without ATen's switch to x above 20, which is wrong in float64 by 2e-9.
  return lower_bound ? *lower_bound * at::sigmoid(rate * x) : -rate * at::logaddexp(x, at::zeros({}, x.options()));
}

std::vector<Implementation> kda_gate_implementations() {
  std::vector<Implementation> all{Implementation::reference};
  if (cuda::available()) all.push_back(Implementation::cuda);
  return all;
}

}  // namespace klab::kernels
