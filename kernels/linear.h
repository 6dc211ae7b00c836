// The matrix product of every projection, on the fastest library at hand.
#pragma once

#include <ATen/core/Tensor.h>

namespace klab::kernels {

/// x weight^T: x [.., K], weight [N, K] gives [.., N]. Differentiable.
///
/// Float32 on the CPU goes to oneDNN, which uses the whole vector width of every processor; ATen's own choice, MKL,
/// does so on Intel's alone (elsewhere it reaches half of the speed, as `klab bench` shows). Everything else, and what
/// is too small to gain, goes to at::linear. Throws c10::ValueError that names the argument.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight);

}  // namespace klab::kernels
