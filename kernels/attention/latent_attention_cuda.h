// Latent attention on the CUDA kernel. Between latent_attention.cpp and kernels/attention/cuda/.
#pragma once

#include <string>

#include "kernels/attention/latent_attention.h"
#include "kernels/attention/latent_problem.h"

namespace klab::kernels {

/// Why the CUDA kernel cannot run on these inputs, or "".
std::string latent_attention_cuda_unsupported_reason(const LatentAttentionInputs& inputs);

/// Of inputs that the kernel can take, on the device of `q`.
void latent_attention_cuda(const LatentProblem& problem, const at::Tensor& q);

}  // namespace klab::kernels
