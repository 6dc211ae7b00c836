// From a raw projection to the log-decay of KDA and Gated DeltaNet.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace klab::kernels {

/// Without a lower bound: g = -exp(A_log) softplus(raw + dt_bias). With one in [-5, 0):
/// g = lower_bound * sigmoid(exp(A_log) (raw + dt_bias)), a rescaled sigmoid and not a clamp.
///
/// raw [B, T, H, K] with dt_bias [H * K], or raw [B, T, H] with dt_bias [H] (Gated DeltaNet); A_log [H]; dt_bias may be
/// undefined, A_log too when there is a lower bound. The result has raw's shape, <= 0, float32 (float64 for float64).
/// Differentiable. Section 4 of arXiv 2510.26692. Throws c10::ValueError that names the argument.
at::Tensor kda_gate(const at::Tensor& raw, const at::Tensor& A_log, const at::Tensor& dt_bias,
                    std::optional<double> lower_bound = std::nullopt);

/// Throws what kda_gate() would for these parameters, in the name of `op`.
void check_kda_gate(const char* op, const at::Tensor& raw, const at::Tensor& A_log, const at::Tensor& dt_bias,
                    std::optional<double> lower_bound);

}  // namespace klab::kernels
