// SPDX-License-Identifier: Apache-2.0
// Norms over the last dimension. Statistics are computed in float32 (float64 for float64 inputs), results rounded once.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "kernels/common/export.h"
#include "kernels/common/implementation.h"

namespace klab::kernels {

/// x / sqrt(sum(x^2) + eps): [.., K] gives [.., K], dtype of x. The eps is added to the sum, not to the mean.
/// Differentiable (`cuda`: once). Implementations: `reference` and `cuda`.
KLAB_API at::Tensor l2norm(const at::Tensor& x, double eps = 1e-6,
                           Implementation implementation = Implementation::automatic);

/// x / sqrt(mean(x^2) + eps) * weight: x [.., D], weight [D]; dtype of x. Zhang and Sennrich 2019. Same implementations
/// as gated_rms_norm().
KLAB_API at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps = 1e-5,
                             Implementation implementation = Implementation::automatic);

/// rms_norm(x, weight) * act(gate), with act "sigmoid" (KDA), "swish" (Gated DeltaNet) or "none".
/// x and gate [.., D], weight [D]; dtype of x. Differentiable in x, weight and gate (`cpu` and `cuda`: once).
/// `automatic` is the kernel for the tensors' device, or `reference` in float64. Throws c10::ValueError that names the
/// argument, c10::NotImplementedError for an implementation that cannot run on these tensors.
KLAB_API at::Tensor gated_rms_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& gate,
                                   const std::string& activation, double eps = 1e-5,
                                   Implementation implementation = Implementation::automatic);

/// rms_norm(x * silu(gate), weight): the gate before the norm, as in Mamba2. Shapes as above. Differentiable.
KLAB_API at::Tensor rms_norm_of_gated(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& gate,
                                      double eps = 1e-5);

/// The implementations that this build has; those of gated_rms_norm() also apply to rms_norm().
KLAB_API std::vector<Implementation> l2norm_implementations();
KLAB_API std::vector<Implementation> gated_rms_norm_implementations();

}  // namespace klab::kernels
