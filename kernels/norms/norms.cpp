#include "kernels/norms/norms.h"

#include <ATen/ATen.h>

#include "kernels/common/checks.h"
#include "kernels/common/cuda/backend.h"
#include "kernels/common/kernel_choice.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/norms/norms_fused.h"

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

GateActivation parse(const std::string& activation) {
  if (activation == "sigmoid") return GateActivation::sigmoid;
  return activation == "swish" ? GateActivation::swish : GateActivation::none;
}

// On the kernels that `wanted` stands for; undefined where the composed form is to be taken.
Tensor by_kernel(const char* op, NormInputs in, Implementation wanted) {
  UnsupportedReasons unsupported_reason{cuda_unsupported_reason({in.x, in.weight, in.gate}), cpu_unsupported_reason({in.x, in.weight, in.gate})};
  if (!in.mean) unsupported_reason.cpu = "there is none";
  const Implementation chosen = choose_implementation(op, wanted, in.x, unsupported_reason, {Implementation::reference});
  if (in.activation == GateActivation::none) in.gate = Tensor();
  if (chosen == Implementation::cuda) return run_fused(cuda_norm, in);
  return chosen == Implementation::cpu ? run_fused(cpu_norm, in) : Tensor();
}

}  // namespace

Tensor l2norm(const Tensor& x, double eps, Implementation implementation) {
  TORCH_CHECK_VALUE(x.defined() && x.dim() >= 1, "l2norm: x must be [.., K]");
  check_tensor("l2norm", "x", x, x.sizes(), x);
  const Tensor y = by_kernel("l2norm", {.x = x, .eps = eps, .mean = false}, implementation);
  if (y.defined()) return y;
  const Tensor wide = x.to(accumulation_type(x.scalar_type()));
  return (wide * at::rsqrt(wide.square().sum(-1, /*keepdim=*/true) + eps)).to(x.scalar_type());
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, Implementation implementation) {
  check_norm("rms_norm", x, weight);
  const Tensor y = by_kernel("rms_norm", {.x = x, .weight = weight, .eps = eps}, implementation);
  if (y.defined()) return y;
  return normalised(x.to(accumulation_type(x.scalar_type())), weight, eps).to(x.scalar_type());
}

Tensor gated_rms_norm(const Tensor& x, const Tensor& weight, const Tensor& gate, const std::string& activation,
                      double eps, Implementation implementation) {
  constexpr const char* kOp = "gated_rms_norm";
  check_norm(kOp, x, weight);
  check_tensor(kOp, "gate", gate, x.sizes(), x);
  TORCH_CHECK_VALUE(activation == "sigmoid" || activation == "swish" || activation == "none", kOp, ": activation '",
                    activation, "' is none of: sigmoid, swish, none");
  const Tensor y = by_kernel(kOp, {x, weight, gate, parse(activation), eps}, implementation);
  if (y.defined()) return y;
  const at::ScalarType wide = accumulation_type(x.scalar_type());
  return (normalised(x.to(wide), weight, eps) * gate_value(gate.to(wide), activation)).to(x.scalar_type());
}

Tensor rms_norm_of_gated(const Tensor& x, const Tensor& weight, const Tensor& gate, double eps) {
  check_norm("rms_norm_of_gated", x, weight);
  check_tensor("rms_norm_of_gated", "gate", gate, x.sizes(), x);
  const at::ScalarType wide = accumulation_type(x.scalar_type());
  return normalised(x.to(wide) * at::silu(gate.to(wide)), weight, eps).to(x.scalar_type());
}

std::vector<Implementation> l2norm_implementations() {
  std::vector<Implementation> all{Implementation::reference};
  if (cuda::available()) all.push_back(Implementation::cuda);
  return all;
}

std::vector<Implementation> gated_rms_norm_implementations() {
  std::vector<Implementation> all{Implementation::reference, Implementation::cpu};
  if (cuda::available()) all.push_back(Implementation::cuda);
  return all;
}

}  // namespace klab::kernels
