// SPDX-License-Identifier: Apache-2.0
// The positions of sequences in a batch [B, T].
#pragma once

#include <cstdint>

namespace klab::kernels::cuda {

/// [B, T] rows, or packed sequences by offsets in device memory.
struct Sequences {
  int64_t count;                     ///< N
  int64_t tokens;                    ///< T
  const int64_t* offsets = nullptr;  ///< [N + 1] in device memory, increasing from 0 to T; null: a sequence per row
};

struct SequenceSpan {
  int64_t row, start, length;
};

/// Device only if there are offsets, because they are in device memory.
constexpr SequenceSpan span_of(const Sequences& s, int64_t sequence) {
  if (s.offsets == nullptr) return {sequence, 0, s.tokens};
  return {0, s.offsets[sequence], s.offsets[sequence + 1] - s.offsets[sequence]};
}

}  // namespace klab::kernels::cuda
