// Norms over the last dimension. Statistics are formed in float32 (float64 for float64 inputs), results rounded once.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "kernels/implementation.h"

namespace klab::kernels {

/// x / sqrt(sum(x^2) + eps): [.., K] gives [.., K], dtype of x. The eps is added to the sum, not to the mean.
at::Tensor l2norm(const at::Tensor& x, double eps = 1e-6);

/// x / sqrt(mean(x^2) + eps) * weight: x [.., D], weight [D]; dtype of x. Zhang and Sennrich 2019.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps = 1e-5);

/// rms_norm(x, weight) * act(gate), with act "sigmoid" (KDA), "swish" (Gated DeltaNet's own) or "none".
/// x and gate [.., D], weight [D]; dtype of x. Differentiable in x, weight and gate (`cpu`: once); the CUDA kernel is
/// the forward pass and is refused where a gradient is needed. Throws c10::ValueError that names the argument.
at::Tensor gated_rms_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& gate,
                          const std::string& activation, double eps = 1e-5,
                          Implementation implementation = Implementation::automatic);

/// rms_norm(x * silu(gate), weight): the gate before the norm, as Mamba2 has it. Shapes as above.
at::Tensor rms_norm_of_gated(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& gate, double eps = 1e-5);

/// The implementations of gated_rms_norm that this build has.
std::vector<Implementation> gated_rms_norm_implementations();

}  // namespace klab::kernels
