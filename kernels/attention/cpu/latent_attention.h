// Decoding over a latent cache, as kernels/attention/latent_attention.h defines it.
#pragma once

#include <cstdint>

#include "kernels/attention/latent_problem.h"

namespace klab::kernels::cpu {

/// Floats that latent_attention() needs for what parts of the cache have given, before they are joined.
int64_t latent_workspace(const LatentProblem& problem);

/// The same bits on any number of threads.
void latent_attention(const LatentProblem& problem, float* workspace);

}  // namespace klab::kernels::cpu
