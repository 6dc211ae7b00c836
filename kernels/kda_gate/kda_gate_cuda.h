// The gate on the CUDA kernel, with autograd. Between kda_gate.cpp and kernels/cuda/.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace klab::kernels {

/// Checked arguments of kda_gate(), none of them float64. Differentiable once.
at::Tensor kda_gate_cuda(const at::Tensor& raw, const at::Tensor& A_log, const at::Tensor& dt_bias,
                         std::optional<double> lower_bound);

}  // namespace klab::kernels
