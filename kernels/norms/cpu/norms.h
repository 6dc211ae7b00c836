// SPDX-License-Identifier: Apache-2.0
// CPU kernels of gated RMSNorm, forward and backward.
#pragma once

#include <cstdint>

#include "kernels/norms/norm_problem.h"

namespace klab::kernels::cpu {

/// Rows per task. Each task writes its own partial sum of the weight's gradient.
constexpr int64_t kNormRows = 64;

void gated_rms_norm_forward(const NormProblem& problem, const MutableRows& y);

void gated_rms_norm_backward(const NormProblem& problem, const Rows& d_y, const NormGradients& gradients);

}  // namespace klab::kernels::cpu
