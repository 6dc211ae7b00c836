// SPDX-License-Identifier: Apache-2.0
// CPU kernel of latent_attention(), see kernels/attention/latent_attention.h.
#pragma once

#include <cstdint>

#include "kernels/attention/latent_problem.h"

namespace klab::kernels::cpu {

/// Workspace of latent_attention() in floats: the partial results of the splits of the cache.
int64_t latent_workspace(const LatentProblem& problem);

/// Bitwise the same on any number of threads.
void latent_attention(const LatentProblem& problem, float* workspace);

}  // namespace klab::kernels::cpu
