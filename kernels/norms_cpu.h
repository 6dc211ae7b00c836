// The gated RMSNorm on the hand-written CPU kernel, with autograd. Between norms.cpp and kernels/cpu/.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace klab::kernels {

/// Checked arguments of gated_rms_norm(); `gate` undefined with the activation "none". Differentiable once.
at::Tensor gated_rms_norm_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& gate,
                              const std::string& activation, double eps);

}  // namespace klab::kernels
