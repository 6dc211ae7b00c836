// Decoding over a latent cache on CUDA, as kernels/attention/latent_attention.h defines it. Between
// latent_attention.cpp and the kernels: plain pointers to device memory, no ATen. Nothing here synchronises or
// allocates.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention/latent_problem.h"

namespace klab::kernels::cuda {

constexpr int kWidestLatent = 512, kWidestLatentRow = 640;  ///< of value_dim and width

/// `workspace` as large as asked for below. The same bits in every run on one device.
void latent_attention(const LatentProblem& problem, void* workspace, void* stream);
size_t latent_attention_workspace(const LatentProblem& problem);

}  // namespace klab::kernels::cuda
