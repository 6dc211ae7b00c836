// SPDX-License-Identifier: Apache-2.0
#include "kernels/kda_gate/kda_gate.h"

#include <ATen/ATen.h>

#include "kernels/common/checks.h"
#include "kernels/common/cuda/backend.h"
#include "kernels/common/kernel_choice.h"
#include "kernels/common/operator.h"
#include "kernels/kda_gate/kda_gate_fused.h"

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

namespace {

using at::Tensor;

constexpr const char* kOp = "kda_gate";

void check(const KdaGateInputs& in) {
  TORCH_CHECK_VALUE(in.raw.defined() && (in.raw.dim() == 3 || in.raw.dim() == 4), kOp,
                    ": raw must be [B, T, H] or [B, T, H, K]");
  check_tensor(kOp, "raw", in.raw, in.raw.sizes(), in.raw);
  check_kda_gate(kOp, in.raw, in.A_log, in.dt_bias, in.lower_bound);
}

Implementation choose(const KdaGateInputs& in, Implementation requested) {
  const UnsupportedReasons unsupported{cuda_unsupported_reason(tensors_of(in)), "there is none"};
  return choose_implementation(kOp, requested, in.raw, unsupported, {Implementation::reference});
}

// x = raw + dt_bias and rate = exp(A_log) per head, in the accumulation dtype.
struct Terms {
  Tensor x, rate;

  explicit Terms(const KdaGateInputs& in) {
    const at::ScalarType wide = accumulation_type(in.raw.scalar_type());
    x = in.raw.to(wide);
    if (in.dt_bias.defined()) x = x + in.dt_bias.to(wide).view(in.raw.sizes().slice(2));
    rate = at::ones({}, x.options());
    if (!in.A_log.defined()) return;
    rate = in.A_log.to(wide).exp();
    if (in.raw.dim() == 4) rate = rate.unsqueeze(-1);
  }
};

Tensor composed(const KdaGateInputs& in) {
  const auto [x, rate] = Terms(in);
  // log(1 + e^x) without ATen's switch to x above 20, which is wrong in float64 by 2e-9.
  return in.lower_bound ? *in.lower_bound * at::sigmoid(rate * x)
                        : -rate * at::logaddexp(x, at::zeros({}, x.options()));
}

// Explicit, because autograd's derivative of the sigmoid, y (1 - y), loses precision for y close to 1.
KdaGateInputs composed_backward(const KdaGateInputs& in, const Tensor& d_g) {
  const auto [x, rate] = Terms(in);
  const Tensor d = d_g.to(x.scalar_type());
  Tensor d_x, d_log_rate;
  if (in.lower_bound) {
    const Tensor z = rate * x, d_z = *in.lower_bound * at::sigmoid(z) * at::sigmoid(-z) * d;
    d_x = rate * d_z;
    d_log_rate = z * d_z;
  } else {
    d_x = -rate * at::sigmoid(x) * d;
    d_log_rate = -rate * at::logaddexp(x, at::zeros({}, x.options())) * d;
  }
  const auto over_tokens = [](const Tensor& y) { return y.flatten(0, 1).sum(0); };
  KdaGateInputs gradients{.raw = d_x.to(in.raw.scalar_type())};
  if (in.dt_bias.defined()) gradients.dt_bias = over_tokens(d_x).to(in.dt_bias.scalar_type()).view_as(in.dt_bias);
  if (in.A_log.defined()) {
    const Tensor per_channel = over_tokens(d_log_rate);
    gradients.A_log = (in.raw.dim() == 4 ? per_channel.sum(-1) : per_channel).to(in.A_log.scalar_type());
  }
  return gradients;
}

Tensor run(const KdaGateInputs& in, Implementation requested);

// --- The operators klab::kda_gate and klab::kda_gate_backward -----------------------------------------------------

struct KdaGateOperator {
  using Inputs = KdaGateInputs;
  static constexpr const char* kName = kOp;
  static constexpr std::array kOutputs = {"g"};
  static constexpr std::array<const char*, 0> kKept{};
  static constexpr const char* kDerivatives =
      "differentiable once; second derivatives are those of the C++ implementation 'reference'";

  static Tensors forward(const Inputs& in, Implementation implementation, bool) { return {run(in, implementation)}; }

  static Tensors shapes(const Inputs& in, Implementation, bool) {
    const auto wide = in.raw.options().dtype(accumulation_type(in.raw.scalar_type()));
    return {at::empty_symint(in.raw.sym_sizes(), wide)};
  }

  static std::optional<Inputs> backward(const Inputs& in, Implementation implementation, at::TensorList,
                                        at::TensorList d_outputs) {
    if (!d_outputs[0].defined()) return Inputs{};
    const bool cuda = choose(in, implementation) == Implementation::cuda;
    return cuda ? kda_gate_cuda_backward(in, d_outputs[0]) : composed_backward(in, d_outputs[0]);
  }
};

Tensor run(const KdaGateInputs& in, Implementation requested) {
  check(in);
  if (choose(in, requested) != Implementation::cuda) return composed(in);
  if (!records_gradient(in)) return kda_gate_cuda_forward(in);
  return call_operator<KdaGateOperator>({in, Implementation::cuda}).front();
}

}  // namespace

Tensor kda_gate(const Tensor& raw, const Tensor& A_log, const Tensor& dt_bias, std::optional<double> lower_bound,
                Implementation implementation) {
  return run({raw, A_log, dt_bias, lower_bound}, implementation);
}

std::vector<Implementation> kda_gate_implementations() {
  std::vector<Implementation> all{Implementation::reference};
  if (cuda::available()) all.push_back(Implementation::cuda);
  return all;
}

}  // namespace klab::kernels

TORCH_LIBRARY_FRAGMENT(klab, library) { klab::kernels::register_operator<klab::kernels::KdaGateOperator>(library); }
