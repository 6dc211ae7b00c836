// RMSNorm with a gate on the CPU, forward and backward. Between norms.cpp and the kernel.
#pragma once

#include <cstdint>

#include "kernels/rows.h"

namespace klab::kernels::cpu {

enum class GateActivation { none, sigmoid, swish };

/// Rows of D numbers, one after another (`batch` is their step).
struct NormProblem {
  int64_t rows, D;
  Rows x;
  const float* weight;  ///< [D]
  Rows gate;            ///< absent with GateActivation::none
  GateActivation activation;
  float eps;
};

/// Rows that one task takes, whose share of the weight's gradient it adds up.
constexpr int64_t kNormRows = 64;

/// y = x / sqrt(mean(x^2) + eps) * weight * activation(gate).
void gated_rms_norm_forward(const NormProblem& problem, const MutableRows& y);

struct NormGradients {
  MutableRows x, gate;  ///< gate may be absent
  float* weight;        ///< [ceil(rows / kNormRows), D]: the caller adds them up
};

void gated_rms_norm_backward(const NormProblem& problem, const Rows& d_y, const NormGradients& gradients);

}  // namespace klab::kernels::cpu
