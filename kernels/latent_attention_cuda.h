// Latent attention on the CUDA kernel. Between latent_attention.cpp and kernels/cuda/.
#pragma once

#include <string>

#include "kernels/latent_attention.h"

namespace klab::kernels {

/// Why the CUDA kernel cannot take these inputs, or "".
std::string latent_attention_cuda_declines(const LatentAttentionInputs& inputs);

/// Checked inputs that the kernel can take.
at::Tensor latent_attention_cuda(const LatentAttentionInputs& inputs);

}  // namespace klab::kernels
