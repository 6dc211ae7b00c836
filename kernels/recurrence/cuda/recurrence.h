// SPDX-License-Identifier: Apache-2.0
// CUDA kernels of the recurrence family. They take plain pointers, without ATen.
//
// They neither synchronise nor allocate, so they can be captured in a CUDA graph.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/common/cuda/sequences.h"
#include "kernels/recurrence/recurrence_problem.h"

namespace klab::kernels::cuda {

/// Tokens per chunk: the side of a tensor core tile. Longer chunks would cost more triangular work and a wider range of
/// exponents; the state stays in registers, so short chunks cause no memory traffic for it.
constexpr int kChunk = 16;

/// The largest K in float32 that fits the stages of the chunk kernels. Wider keys use the token-by-token kernel,
/// forward only.
constexpr int64_t kWidestFloat32 = 128;

/// q, k, v, a, b and o have one dtype, that of the tensor core operands; g and beta have the same or float32. All
/// pointers are device memory; rows need no alignment.
struct Problem : RecurrenceProblem {
  Sequences sequences;
};

/// The number of chunks of all sequences; for packed sequences an upper bound, from N and T.
constexpr int64_t chunk_slots(const Sequences& s) {
  if (s.offsets == nullptr) return s.count * ((s.tokens + kChunk - 1) / kChunk);
  return s.tokens / kChunk + s.count;
}

/// The first chunk slot of a sequence.
constexpr int64_t first_chunk_slot(const Sequences& s, int64_t sequence, int64_t start) {
  return s.offsets == nullptr ? sequence * ((s.tokens + kChunk - 1) / kChunk) : start / kChunk + sequence;
}

/// A window of tokens, the same of every sequence; the tokens of a shorter sequence end inside or before it. The
/// backward pass of long sequences goes through windows, from the last to the first, so that its workspace does not
/// grow with T.
struct Window {
  int64_t first, tokens;
};

/// The chunk slots of a window, which are those of all sequences if it covers them.
constexpr int64_t chunk_slots(const Sequences& s, const Window& window) {
  if (window.tokens >= s.tokens) return chunk_slots(s);
  return s.count * (window.tokens / kChunk);
}
constexpr int64_t first_chunk_slot(const Sequences& s, const Window& window, int64_t sequence, int64_t start) {
  if (window.tokens >= s.tokens) return first_chunk_slot(s, sequence, start);
  return sequence * (window.tokens / kChunk);
}

/// Writes o and final_state [N, HV, K, V], each unless it is null. `workspace` has recurrence_forward_workspace()
/// bytes. `stream` is a cudaStream_t.
void recurrence_forward(const Problem& problem, const MutableRows& o, float* final_state, void* workspace,
                        void* stream);
size_t recurrence_forward_workspace(const Problem& problem);

/// Bytes of shared memory per block that the chunk kernels need for such a problem, and that the current device has.
size_t recurrence_shared_memory(Dtype dtype, Update update, int64_t K, bool with_backward);
size_t recurrence_shared_memory_limit();

/// What the last forward pass of this thread launched: "portable, 4 consumers, 1 part", "hopper, ...", "step", "none".
const char* recurrence_last_plan();

/// As recurrence_forward(), token by token, for a few tokens per sequence (decode), bound by reading and writing the
/// states. `all_states` [N, T, HV, K, V] (or null) gets the state after every token, for speculative decoding.
void recurrence_step(const Problem& problem, const MutableRows& o, float* final_state, float* all_states, void* stream);

/// From the gradients of o and of the final state [N, HV, K, V] (null: zeros). `workspace` has
/// recurrence_backward_workspace() bytes.
void recurrence_backward(const Problem& problem, const Rows& d_o, const float* d_final_state,
                         const RecurrenceGradients& gradients, void* workspace, void* stream);
size_t recurrence_backward_workspace(const Problem& problem);

}  // namespace klab::kernels::cuda
