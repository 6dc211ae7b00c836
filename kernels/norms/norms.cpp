// SPDX-License-Identifier: Apache-2.0
#include "kernels/norms/norms.h"

#include <ATen/ATen.h>

#include "kernels/common/checks.h"
#include "kernels/common/cuda/backend.h"
#include "kernels/common/kernel_choice.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/common/operator.h"
#include "kernels/norms/norms_fused.h"

namespace klab::kernels {
namespace {

using at::Tensor;

constexpr const char* kGatedRmsNorm = "gated_rms_norm";

void check_x(const char* op, const Tensor& x) {
  TORCH_CHECK_VALUE(x.defined() && x.dim() >= 1, op, ": x must have at least one dimension");
  check_tensor(op, "x", x, x.sizes(), x);
}

void check_norm(const char* op, const Tensor& x, const Tensor& weight) {
  check_x(op, x);
  check_tensor(op, "weight", weight, {x.size(-1)}, x);
}

void check_activation(const char* op, const std::string& activation) {
  TORCH_CHECK_VALUE(activation == "sigmoid" || activation == "swish" || activation == "none", op, ": activation '",
                    activation, "' is none of: sigmoid, swish, none");
}

Tensor gate_value(const Tensor& gate, const std::string& activation) {
  return activation == "sigmoid" ? at::sigmoid(gate) : at::silu(gate);
}

// In the accumulation dtype, unrounded.
Tensor normalised(const Tensor& wide, const Tensor& weight, double eps) {
  return wide * at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps) * weight.to(wide.scalar_type());
}

Tensor composed(const NormInputs& in) {
  const Tensor wide = in.x.to(accumulation_type(in.x.scalar_type()));
  if (!in.mean) {
    return (wide * at::rsqrt(wide.square().sum(-1, /*keepdim=*/true) + in.eps)).to(in.x.scalar_type());
  }
  Tensor y = normalised(wide, in.weight, in.eps);
  if (in.gate.defined()) y = y * gate_value(in.gate.to(wide.scalar_type()), in.activation);
  return y.to(in.x.scalar_type());
}

NormInputs without_unused_gate(NormInputs in) {
  if (in.activation == "none") in.gate = Tensor();
  return in;
}

const FusedNorm* fused_norm(const char* op, const NormInputs& in, Implementation requested) {
  const ArgumentTensors tensors = tensors_of(in);
  UnsupportedReasons unsupported{cuda_unsupported_reason(tensors), cpu_unsupported_reason(tensors)};
  if (!in.mean) unsupported.cpu = "there is none";
  return kernels_of(choose_implementation(op, requested, in.x, unsupported, {Implementation::reference}), cpu_norm,
                    cuda_norm);
}

// --- The operators klab::gated_rms_norm and klab::gated_rms_norm_backward; with mean=False the L2 norm ------------

Tensor run(const char* op, const NormInputs& given, Implementation requested);

struct NormOperator {
  using Inputs = NormInputs;
  static constexpr const char* kName = kGatedRmsNorm;
  static constexpr std::array kOutputs = {"y"};
  static constexpr std::array<const char*, 0> kKept{};
  static constexpr const char* kDerivatives =
      "differentiable once; second derivatives are those of the C++ implementation 'reference'";

  static Tensors forward(const Inputs& in, Implementation implementation, bool) {
    check_x(kName, in.x);
    check_activation(kName, in.activation);
    if (in.mean) check_tensor(kName, "weight", in.weight, {in.x.size(-1)}, in.x);
    TORCH_CHECK_VALUE(in.mean || !in.weight.defined(), kName, ": weight is given, but an L2 norm has none");
    if (in.activation != "none" || in.gate.defined()) check_tensor(kName, "gate", in.gate, in.x.sizes(), in.x);
    return {run(kName, in, implementation)};
  }

  static Tensors shapes(const Inputs& in, Implementation, bool) { return {shaped_like(in.x)}; }

  static std::optional<Inputs> backward(const Inputs& given, Implementation implementation, at::TensorList,
                                        at::TensorList d_outputs) {
    const Inputs in = without_unused_gate(given);
    const FusedNorm* kernels = fused_norm(kName, given, implementation);
    if (kernels == nullptr) return std::nullopt;
    if (!d_outputs[0].defined()) return Inputs{};
    return kernels->backward(in, d_outputs[0].contiguous());
  }
};

// `op` is the name of the public function.
Tensor run(const char* op, const NormInputs& given, Implementation requested) {
  const FusedNorm* kernels = fused_norm(op, given, requested);
  const NormInputs in = without_unused_gate(given);
  if (kernels == nullptr) return composed(in);
  if (!records_gradient(in)) return kernels->forward(in);
  return call_operator<NormOperator>({in, kernels == &cuda_norm ? Implementation::cuda : Implementation::cpu}).front();
}

}  // namespace

Tensor l2norm(const Tensor& x, double eps, Implementation implementation) {
  check_x("l2norm", x);
  return run("l2norm", {.x = x, .eps = eps, .mean = false}, implementation);
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, Implementation implementation) {
  check_norm("rms_norm", x, weight);
  return run("rms_norm", {.x = x, .weight = weight, .eps = eps}, implementation);
}

Tensor gated_rms_norm(const Tensor& x, const Tensor& weight, const Tensor& gate, const std::string& activation,
                      double eps, Implementation implementation) {
  check_norm(kGatedRmsNorm, x, weight);
  check_tensor(kGatedRmsNorm, "gate", gate, x.sizes(), x);
  check_activation(kGatedRmsNorm, activation);
  return run(kGatedRmsNorm, {x, weight, gate, activation, eps}, implementation);
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

TORCH_LIBRARY_FRAGMENT(klab, library) { klab::kernels::register_operator<klab::kernels::NormOperator>(library); }
