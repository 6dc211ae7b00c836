// SPDX-License-Identifier: Apache-2.0
// Operation counts of the recurrence family, for accounting and benchmarks. A multiply-add counts two.
#pragma once

#include <cstdint>

#include "kernels/recurrence/recurrence.h"

namespace klab::kernels {

/// The chunk size of published operation counts.
constexpr int64_t kCountedChunk = 64;

/// FLOPs of the chunk form for one head over T tokens. For the delta rule at K = V this is equation 13 of
/// arXiv 2510.26692, 6 T K^2 + 3 T C K + T C^2: the products with the state (correction, read and write, 2 K V each per
/// token), the causal half of the C x C products (k k^T and q k^T over K, the intra-chunk output over V), and the
/// triangular solve.
inline double recurrence_flops(Update update, int64_t T, int64_t K, int64_t V, int64_t C = kCountedChunk) {
  const auto t = static_cast<double>(T), k = static_cast<double>(K), v = static_cast<double>(V),
             c = static_cast<double>(C);
  switch (update) {
    case Update::accumulate: return t * (4 * k * v + c * k + c * v);
    case Update::delta: return t * (6 * k * v + 2 * c * k + c * v + c * c);
    // Two more masked products of rows with columns, one more with values, one more write to the state.
    case Update::dplr: return t * (8 * k * v + 4 * c * k + 3 * c * v + c * c);
  }
  return 0;
}

/// FLOPs of one token in the recurrent form for one head: decay, reads, writes.
inline double recurrence_step_flops(Update update, int64_t K, int64_t V) {
  const double state = static_cast<double>(K) * static_cast<double>(V);
  return state * (update == Update::accumulate ? 5 : update == Update::delta ? 7 : 9);
}

}  // namespace klab::kernels
