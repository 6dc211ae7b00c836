#include "kernels/norms.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "kernels/checks.h"
#include "kernels/cpu_tensors.h"
#include "kernels/cuda/gated_rms_norm.h"
#include "kernels/norms_cpu.h"

namespace klab::kernels {
namespace {

using at::Tensor;

void check_norm(const char* op, const Tensor& x, const Tensor& weight) {
  TORCH_CHECK_VALUE(x.defined() && x.dim() >= 1, op, ": x must be [.., D]");
  check_tensor(op, "x", x, x.sizes(), x);
  check_tensor(op, "weight", weight, {x.size(-1)}, x);
}

// In the accumulation dtype, unrounded.
Tensor normalised(const Tensor& wide, const Tensor& weight, double eps) {
  return wide * at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps) * weight.to(wide.scalar_type());
}

Tensor gate_value(const Tensor& gate, const std::string& activation) {
  if (activation == "sigmoid") return at::sigmoid(gate);
  if (activation == "swish") return at::silu(gate);
  return at::ones_like(gate);
}

// Why the CUDA kernel cannot take these tensors, or "".
std::string cuda_declines(const Tensor& x, const Tensor& weight, const Tensor& gate) {
  if (!cuda::gated_rms_norm_built())
    return "this build has no CUDA kernels (nvcc was not found when it was configured)";
  if (!x.is_cuda()) return "the tensors are not on a CUDA device";
  if (needs_gradient({x, weight, gate})) return "it has no backward pass and a gradient is needed";
  if (x.scalar_type() == at::kDouble) return "it computes in float32 and the tensors are float64";
  return "";
}

}  // namespace

Tensor l2norm(const Tensor& x, double eps) {
  TORCH_CHECK_VALUE(x.defined() && x.dim() >= 1, "l2norm: x must be [.., K]");
  check_tensor("l2norm", "x", x, x.sizes(), x);
  const Tensor wide = x.to(accumulation_type(x.scalar_type()));
  return (wide * at::rsqrt(wide.square().sum(-1, /*keepdim=*/true) + eps)).to(x.scalar_type());
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  check_norm("rms_norm", x, weight);
  if (cpu_kernels_decline({x, weight}).empty()) return gated_rms_norm_cpu(x, weight, Tensor(), "none", eps);
  return normalised(x.to(accumulation_type(x.scalar_type())), weight, eps).to(x.scalar_type());
}

Tensor gated_rms_norm(const Tensor& x, const Tensor& weight, const Tensor& gate, const std::string& activation,
                      double eps, Implementation implementation) {
  constexpr const char* kOp = "gated_rms_norm";
  check_norm(kOp, x, weight);
  check_tensor(kOp, "gate", gate, x.sizes(), x);
  TORCH_CHECK_VALUE(activation == "sigmoid" || activation == "swish" || activation == "none", kOp, ": activation '",
                    activation, "' is none of: sigmoid, swish, none");
  const std::string declined = cuda_declines(x, weight, gate);
  TORCH_CHECK_NOT_IMPLEMENTED(implementation != Implementation::cuda || declined.empty(), kOp,
                              ": the CUDA kernel cannot run: ", declined);
  const std::string cpu_declines = cpu_kernels_decline({x, weight, gate});
  TORCH_CHECK_NOT_IMPLEMENTED(implementation != Implementation::cpu || cpu_declines.empty(), kOp,
                              ": the CPU kernel cannot run: ", cpu_declines);
  TORCH_CHECK_NOT_IMPLEMENTED(implementation != Implementation::chunk && implementation != Implementation::composed,
                              kOp, ": there is no implementation '", to_string(implementation), "' of it");
  if (implementation != Implementation::reference) {
    if (declined.empty()) return cuda::gated_rms_norm(x, weight, gate, activation, eps);
    if (cpu_declines.empty()) return gated_rms_norm_cpu(x, weight, gate, activation, eps);
  }
  if (x.is_cuda() && implementation == Implementation::automatic) {
    TORCH_WARN_ONCE(kOp, ": taking the composed form on CUDA, because the fused kernel cannot run: ", declined);
  }
  const at::ScalarType wide = accumulation_type(x.scalar_type());
  return (normalised(x.to(wide), weight, eps) * gate_value(gate.to(wide), activation)).to(x.scalar_type());
}

Tensor rms_norm_of_gated(const Tensor& x, const Tensor& weight, const Tensor& gate, double eps) {
  check_norm("rms_norm_of_gated", x, weight);
  check_tensor("rms_norm_of_gated", "gate", gate, x.sizes(), x);
  const at::ScalarType wide = accumulation_type(x.scalar_type());
  return normalised(x.to(wide) * at::silu(gate.to(wide)), weight, eps).to(x.scalar_type());
}

std::vector<Implementation> gated_rms_norm_implementations() {
  std::vector<Implementation> all{Implementation::reference, Implementation::cpu};
  if (cuda::gated_rms_norm_built()) all.push_back(Implementation::cuda);
  return all;
}

}  // namespace klab::kernels
