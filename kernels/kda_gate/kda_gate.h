// SPDX-License-Identifier: Apache-2.0
// The gate of KDA and Gated DeltaNet: log-decay from a raw projection.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "kernels/common/export.h"
#include "kernels/common/implementation.h"

namespace klab::kernels {

/// Without a lower bound: g = -exp(A_log) softplus(raw + dt_bias). With one in [-5, 0):
/// g = lower_bound * sigmoid(exp(A_log) (raw + dt_bias)), a scaled sigmoid, not a clamp.
///
/// raw [B, T, H, K] with dt_bias [H * K], or raw [B, T, H] with dt_bias [H] (Gated DeltaNet); A_log [H]; dt_bias may be
/// undefined, and A_log too with a lower bound. The result g <= 0 has raw's shape, float32 (float64 for float64).
/// Differentiable (`cuda`: once). Section 4 of arXiv 2510.26692. `automatic` is `cuda` for CUDA tensors other than
/// float64, else `reference`. Throws c10::ValueError that names the argument, c10::NotImplementedError for an
/// implementation that cannot run on these tensors.
KLAB_API at::Tensor kda_gate(const at::Tensor& raw, const at::Tensor& A_log, const at::Tensor& dt_bias,
                             std::optional<double> lower_bound = std::nullopt,
                             Implementation implementation = Implementation::automatic);

/// The implementations that this build has.
KLAB_API std::vector<Implementation> kda_gate_implementations();

/// Throws what kda_gate() would throw for these parameters; the message begins with `op`.
KLAB_API void check_kda_gate(const char* op, const at::Tensor& raw, const at::Tensor& A_log, const at::Tensor& dt_bias,
                             std::optional<double> lower_bound);

}  // namespace klab::kernels
