// RMSNorm with a gate on the CPU, forward and backward. Between norms.cpp and the kernel.
#pragma once

#include <cstdint>

#include "kernels/norms/norm_problem.h"

namespace klab::kernels::cpu {

/// Rows that one task takes, whose share of the weight's gradient it adds up.
constexpr int64_t kNormRows = 64;

void gated_rms_norm_forward(const NormProblem& problem, const MutableRows& y);

void gated_rms_norm_backward(const NormProblem& problem, const Rows& d_y, const NormGradients& gradients);

}  // namespace klab::kernels::cpu
