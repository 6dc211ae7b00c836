// SPDX-License-Identifier: Apache-2.0
// The interface between recurrence.cpp and the hand-written kernels (recurrence_cpu.cpp, recurrence_cuda.cpp).
#pragma once

#include <string>

#include "kernels/recurrence/recurrence.h"
#include "kernels/recurrence/recurrence_problem.h"

namespace klab::kernels {

/// What a forward pass stores for the backward pass. CUDA stores nothing and recomputes the states.
struct RecurrenceKept {
  at::Tensor corrections;  ///< [B, TW, HV, V] float32; empty for Update::accumulate
  at::Tensor states;       ///< [segments, HV, padded K * padded V] float32, the state before every 64th write
};

/// Kernels of one device. Inputs must be checked. Below autograd.
struct FusedRecurrence {
  /// Fills `kept` unless it is null.
  RecurrenceOutputs (*forward)(const RecurrenceInputs& inputs, RecurrenceKept* kept);
  /// The gradients, each in the field and the dtype of its input. `d_final_state` may be undefined.
  RecurrenceInputs (*backward)(const RecurrenceInputs& inputs, const RecurrenceKept& kept, const at::Tensor& d_o,
                               const at::Tensor& d_final_state);
};

extern const FusedRecurrence cpu_recurrence, cuda_recurrence;

/// Why the kernels cannot run on these inputs, or "". `with_backward`: the inputs need a backward pass, or this is the
/// backward pass.
std::string recurrence_cpu_unsupported_reason(const RecurrenceInputs& inputs);
std::string recurrence_cuda_unsupported_reason(const RecurrenceInputs& inputs, bool with_backward);

/// Meta tensors with the shapes, including symbolic sizes, of what the CPU kernels store.
RecurrenceKept recurrence_cpu_kept_shapes(const RecurrenceInputs& inputs);

/// The inputs with contiguous rows; owns the memory that a problem points to.
RecurrenceInputs with_plain_rows(RecurrenceInputs inputs);

/// The problem without the positions of its sequences.
RecurrenceProblem recurrence_problem(const RecurrenceInputs& plain);

/// Uninitialised tensors for all gradients and the pointers to them. The kernels write the gradients of q and k with
/// one row per value head. `empty` allocates a tensor.
struct GradientTensors {
  RecurrenceInputs tensors;
  RecurrenceGradients places;
};
GradientTensors gradient_tensors(const RecurrenceInputs& plain, int64_t sequences,
                                 at::Tensor (*empty)(at::IntArrayRef shape, const at::TensorOptions& options));

/// Converts the gradients that the kernels wrote to the shapes and dtypes of the inputs. `sum` sums over the first
/// dimension.
RecurrenceInputs finished_gradients(RecurrenceInputs gradients, const RecurrenceInputs& inputs,
                                    at::Tensor (*sum)(const at::Tensor&));

}  // namespace klab::kernels
