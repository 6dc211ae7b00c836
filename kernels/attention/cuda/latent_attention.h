// SPDX-License-Identifier: Apache-2.0
// CUDA kernel of latent_attention(), see kernels/attention/latent_attention.h. Takes plain pointers to device memory,
// without ATen. Neither synchronises nor allocates.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention/latent_problem.h"

namespace klab::kernels::cuda {

constexpr int kWidestLatent = 512, kWidestLatentRow = 640;  ///< upper bounds of value_dim and width

/// `workspace` has latent_attention_workspace() bytes. Deterministic: bitwise the same in every run on one device.
void latent_attention(const LatentProblem& problem, void* workspace, void* stream);
size_t latent_attention_workspace(const LatentProblem& problem);

}  // namespace klab::kernels::cuda
