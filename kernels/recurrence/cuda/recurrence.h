// The recurrence family on CUDA. Between recurrence_cuda.cpp and the kernels here: plain pointers, no ATen.
//
// Nothing here synchronises or allocates, so all of it can be captured in a CUDA graph.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/common/cuda/sequences.h"
#include "kernels/recurrence/recurrence_problem.h"

namespace klab::kernels::cuda {

/// Tokens per chunk: the side of a matrix product of the tensor cores. Longer chunks would cost more triangular work
/// and a wider range of exponents; the state stays in registers, so a chunk costs it no memory traffic.
constexpr int kChunk = 16;

/// Wider keys in float32 would not fit the stages of the chunk kernels: they go token by token, forward only.
constexpr int64_t kWidestFloat32 = 128;

/// q, k, v, a, b and o have one dtype, that of the products' operands; g and beta have that or float32. All pointers
/// are device memory; rows need no alignment.
struct Problem : RecurrenceProblem {
  Sequences sequences;
};

/// Chunks of all sequences, or for packed ones the most that their number and T allow.
constexpr int64_t chunk_slots(const Sequences& s) {
  if (s.offsets == nullptr) return s.count * ((s.tokens + kChunk - 1) / kChunk);
  return s.tokens / kChunk + s.count;
}

/// The first of a sequence's chunk slots.
constexpr int64_t first_chunk_slot(const Sequences& s, int64_t sequence, int64_t start) {
  return s.offsets == nullptr ? sequence * ((s.tokens + kChunk - 1) / kChunk) : start / kChunk + sequence;
}

/// Writes o (null: does not), and final_state [N, HV, K, V] unless it is null. `workspace` as large as asked for below.
/// `stream` is a cudaStream_t.
void recurrence_forward(const Problem& problem, const MutableRows& o, float* final_state, void* workspace,
                        void* stream);
size_t recurrence_forward_workspace(const Problem& problem);

/// As recurrence_forward(), token by token, for a few tokens per sequence: bound by reading and writing the states.
/// `all_states` [N, T, HV, K, V] (null: none) gets the state after every token, for taking back guessed tokens.
void recurrence_step(const Problem& problem, const MutableRows& o, float* final_state, float* all_states, void* stream);

/// From the gradients of o and of the final state [N, HV, K, V] (null: zeros).
void recurrence_backward(const Problem& problem, const Rows& d_o, const float* d_final_state,
                         const RecurrenceGradients& gradients, void* workspace, void* stream);
size_t recurrence_backward_workspace(const Problem& problem);

}  // namespace klab::kernels::cuda
