// Where sequences lie in [B, T] rows.
#pragma once

#include <cstdint>

namespace klab::kernels::cuda {

/// [B, T] rows, or packed sequences by offsets in device memory.
struct Sequences {
  int64_t count;                     ///< N
  int64_t tokens;                    ///< T
  const int64_t* offsets = nullptr;  ///< [N + 1] in device memory, rising from 0 to T; null: every row is a sequence
};

struct SequenceSpan {
  int64_t row, start, length;
};

/// Where there are offsets, only for the device.
constexpr SequenceSpan span_of(const Sequences& s, int64_t sequence) {
  if (s.offsets == nullptr) return {sequence, 0, s.tokens};
  return {0, s.offsets[sequence], s.offsets[sequence + 1] - s.offsets[sequence]};
}

}  // namespace klab::kernels::cuda
