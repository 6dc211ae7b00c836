// SPDX-License-Identifier: Apache-2.0
// CPU kernel of experts() for few tokens, see kernels/linear/experts.h.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/linear/cpu/products.h"

namespace klab::kernels::cpu {

struct Expert {
  WeightMatrix gate, up, down;  ///< [M, D], [M, D], [D, M]
};

/// An expert with at least one token: its tokens are the slots [first, first + count) of ExpertsProblem.
struct ExpertVisit {
  const Expert* expert = nullptr;
  int64_t first = 0, count = 0;
};

struct ExpertsProblem {
  int64_t tokens = 0, D = 0;
  Rows x;                           ///< [tokens, D], row stride `batch`
  MutableRows y;                    ///< [tokens, D], row stride `batch`
  std::vector<ExpertVisit> visits;  ///< in the order in which a token's experts are summed
  std::vector<int64_t> token;       ///< of each slot
  std::vector<float> weight;        ///< of each slot
};

/// Adds weight[i] rows[i] to row token[i] of y, for all i < count. The tokens are distinct.
struct AddRowsProblem {
  int64_t count = 0, D = 0;
  const int64_t* token = nullptr;  ///< [count]
  const float* weight = nullptr;   ///< [count]
  Rows rows;                       ///< [count, D], row stride `batch`
  float* y = nullptr;              ///< [tokens, D], contiguous
};
void add_rows(const AddRowsProblem& problem);

/// Workspace of experts() in floats, aligned to a vector.
int64_t experts_workspace(const ExpertsProblem& problem);

/// y_t = sum of weight * expert(x_t) over the slots of token t. The bits of y_t depend only on the token's own row,
/// experts and weights, not on other tokens or the number of threads.
void experts(const ExpertsProblem& problem, float* workspace);

}  // namespace klab::kernels::cpu
