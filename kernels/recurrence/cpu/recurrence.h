// SPDX-License-Identifier: Apache-2.0
// CPU kernels of the recurrence family: fused, vectorised, threaded.
//
// Plain pointers and sizes, so that the files that are compiled once per instruction set do not include ATen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/common/cpu/sequence.h"
#include "kernels/recurrence/recurrence_problem.h"

namespace klab::kernels::cpu {

/// Tokens per chunk, the same for every kernel: the state is read and written once per 16 tokens, and the triangular
/// work inside a chunk, which grows with the chunk size, stays small.
constexpr int64_t kChunk = 16;
/// Tokens between the states that the forward pass keeps for the backward pass; a multiple of kChunk.
constexpr int64_t kSegment = 64;

using Gradients = RecurrenceGradients;

/// With several writes per token `sequences`, and all that the kernels call tokens, are of writes. q, o and g have a
/// row per token of the caller's: q and o belong to the last of its writes, g to the first.
struct Problem : RecurrenceProblem {
  int64_t writes = 1;   ///< per token
  int64_t state_width;  ///< row stride of states and corrections: V, or more if this problem is a slice of V's columns
  std::vector<Sequence> sequences;

  int64_t count() const { return static_cast<int64_t>(sequences.size()); }
};

/// Padded sizes of K and V in the kernels' internal buffers.
constexpr int64_t padded_key(int64_t K) { return (K + 15) / 16 * 16; }
constexpr int64_t padded_value(int64_t V) { return (V + 31) / 32 * 32; }

/// Element n is the number of segments (kSegment tokens) of all sequences before sequence n; element N is the total.
std::vector<int64_t> segment_offsets(const std::vector<Sequence>& sequences);

/// Buffers that the forward pass fills for the backward pass; null pointers are not filled.
struct Kept {
  float* corrections =
      nullptr;  ///< [B, TW, HV, state_width]: v - S^T k of the delta rule, S^T a of DPLR; null for accumulate
  float* states = nullptr;  ///< [segments, HV, padded K x padded V], before each segment, in panels (tiles-inl.h)
};

/// Writes o and final_state [N, HV, K, V] (may be null).
void forward(const Problem& problem, const MutableRows& o, float* final_state, const Kept& kept);

/// From the gradients of o and of the final state [N, HV, K, V] (null: zeros) and what forward() kept.
void backward(const Problem& problem, const Rows& d_o, const float* d_final_state, const Kept& kept,
              const Gradients& gradients);

/// As forward(), token by token, for a few tokens per sequence (decode). `final_state` may alias
/// `problem.initial_state`.
void step(const Problem& problem, const MutableRows& o, float* final_state);

}  // namespace klab::kernels::cpu
