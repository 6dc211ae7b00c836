// A mixture of experts for few tokens, as kernels/linear/experts.h defines it.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/linear/cpu/products.h"

namespace klab::kernels::cpu {

struct Expert {
  WeightMatrix gate, up, down;  ///< [M, D], [M, D], [D, M]
};

/// An expert that somebody goes to, and who: `count` slots from `first` on.
struct ExpertVisit {
  const Expert* expert = nullptr;
  int64_t first = 0, count = 0;
};

struct ExpertsProblem {
  int64_t tokens = 0, D = 0;
  Rows x;                           ///< [tokens, D], by `batch`
  MutableRows y;                    ///< [tokens, D], by `batch`
  std::vector<ExpertVisit> visits;  ///< in the order in which a token's experts are added up
  std::vector<int64_t> token;       ///< of each slot
  std::vector<float> weight;        ///< of each slot
};

/// y [tokens, D] float32 plus weight[i] times row i, at row token[i]; no token stands there twice.
struct AddRowsProblem {
  int64_t count = 0, D = 0;
  const int64_t* token = nullptr;  ///< [count]
  const float* weight = nullptr;   ///< [count]
  Rows rows;                       ///< [count, D], by `batch`
  float* y = nullptr;              ///< [tokens, D], contiguous
};
void add_rows(const AddRowsProblem& problem);

/// Floats that experts() needs, aligned to a vector.
int64_t experts_workspace(const ExpertsProblem& problem);

/// y_t = sum of weight expert(x_t) over the slots of t. What a token gets depends on its own row, experts and weights
/// alone, down to the bits, and not on the number of threads.
void experts(const ExpertsProblem& problem, float* workspace);

}  // namespace klab::kernels::cpu
