// Decoding over a latent cache, as kernels/latent_attention.h defines it.
#pragma once

#include <cstdint>

#include "kernels/rows.h"

namespace klab::kernels::cpu {

struct LatentProblem {
  int64_t B = 0, T = 0, H = 0, S = 0;
  int64_t width = 0, value_dim = 0;  ///< R + P and R
  float scale = 1;
  Rows q;         ///< [B, T, H, width]
  Rows cache;     ///< [B, S, 1, width]
  MutableRows o;  ///< [B, T, H, value_dim]
};

/// Floats that latent_attention() needs for what parts of the cache have given, before they are joined.
int64_t latent_workspace(const LatentProblem& problem);

/// The same bits on any number of threads.
void latent_attention(const LatentProblem& problem, float* workspace);

}  // namespace klab::kernels::cpu
