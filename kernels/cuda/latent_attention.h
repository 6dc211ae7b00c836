// Decoding over a latent cache on CUDA, as kernels/latent_attention.h defines it. Between latent_attention.cpp and the
// kernels: plain pointers to device memory, no ATen. Nothing here synchronises or allocates.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/rows.h"

namespace klab::kernels::cuda {

constexpr int kWidestLatent = 512, kWidestLatentRow = 640;

/// q, cache and o have one dtype.
struct LatentProblem {
  int64_t B = 0, T = 0, H = 0, S = 0;
  int64_t width = 0, value_dim = 0;  ///< R + P up to kWidestLatentRow, R up to kWidestLatent
  float scale = 1;
  Rows q;         ///< [B, T, H, width]
  Rows cache;     ///< [B, S, 1, width]
  MutableRows o;  ///< [B, T, H, value_dim]
};

/// `workspace` as large as asked for below. The same bits in every run on one device.
void latent_attention(const LatentProblem& problem, void* workspace, void* stream);
size_t latent_attention_workspace(const LatentProblem& problem);

}  // namespace klab::kernels::cuda
