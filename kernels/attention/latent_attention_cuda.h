// SPDX-License-Identifier: Apache-2.0
// Calls the CUDA kernel of latent attention from latent_attention.cpp.
#pragma once

#include <string>

#include "kernels/attention/latent_attention.h"
#include "kernels/attention/latent_problem.h"

namespace klab::kernels {

/// Why the CUDA kernel cannot run on these inputs, or "".
std::string latent_attention_cuda_unsupported_reason(const LatentAttentionInputs& inputs);

/// Runs the kernel on the device of `q`. The inputs must be supported, see above.
void latent_attention_cuda(const LatentProblem& problem, const at::Tensor& q);

}  // namespace klab::kernels
