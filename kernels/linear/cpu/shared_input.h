// SPDX-License-Identifier: Apache-2.0
// CPU kernels for products of many float32 rows with small weights, as in training small models: several projections of
// one x, their gradients, and one pass over x for all of them.
#pragma once

#include <cstdint>
#include <vector>

namespace klab::kernels::cpu {

/// y_p = x weight_p^T for every projection p: x [rows, K], weight_p [N_p, K], y_p [rows, N_p]. All matrices of this
/// file are contiguous.
struct SharedInputProblem {
  struct Projection {
    int64_t N = 0;
    const float* weight = nullptr;
  };
  int64_t rows = 0, K = 0;
  std::vector<Projection> projections{};
};

/// Floats of the workspace for any one of the functions below; its memory must be aligned to 64 bytes.
int64_t shared_input_workspace(const SharedInputProblem& problem);

// In all functions the bits of a row of the result depend neither on other rows nor on the number of threads; those of
// a weight's gradient depend on all rows, in their order.

void shared_input_forward(const SharedInputProblem& problem, const float* x, const std::vector<float*>& y,
                          float* workspace);

/// d_x = sum over p of d_y_p weight_p: [rows, K].
void shared_input_gradient(const SharedInputProblem& problem, const std::vector<const float*>& d_y, float* d_x,
                           float* workspace);

/// d_weight_p = d_y_p^T x: [N_p, K]. Does not read the weights.
void shared_input_weight_gradients(const SharedInputProblem& problem, const float* x,
                                   const std::vector<const float*>& d_y, const std::vector<float*>& d_weight,
                                   float* workspace);

}  // namespace klab::kernels::cpu
