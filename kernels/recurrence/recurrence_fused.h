// The recurrence on hand-written kernels: what those of the CPU and of CUDA have in common. Between recurrence.cpp,
// recurrence_cpu.cpp and recurrence_cuda.cpp.
#pragma once

#include <string>

#include "kernels/recurrence/recurrence.h"
#include "kernels/recurrence/recurrence_problem.h"

namespace klab::kernels {

/// What a forward pass stores for the backward pass. CUDA stores nothing and computes the states again.
struct RecurrenceKept {
  at::Tensor corrections;  ///< [B, T, HV, V] float32; empty where the update corrects nothing
  at::Tensor states;       ///< [segments, HV, padded K * padded V] float32, entering every 64th token
};

/// Kernels of one device. All take checked inputs and leave autograd alone.
struct FusedRecurrence {
  /// Fills `kept` unless it is null.
  RecurrenceOutputs (*forward)(const RecurrenceInputs& inputs, RecurrenceKept* kept);
  /// The gradients in the places of the inputs, in their dtypes. `d_final_state` may be undefined.
  RecurrenceInputs (*backward)(const RecurrenceInputs& inputs, const RecurrenceKept& kept, const at::Tensor& d_o,
                               const at::Tensor& d_final_state);
};

extern const FusedRecurrence cpu_recurrence, cuda_recurrence;

/// Why the kernels cannot run on these inputs, or "". `with_backward`: in a forward pass before a backward pass, or in
/// that.
std::string recurrence_cpu_unsupported_reason(const RecurrenceInputs& inputs);
std::string recurrence_cuda_unsupported_reason(const RecurrenceInputs& inputs, bool with_backward);

/// The shapes of what the CPU kernels store, symbolic sizes included, in tensors without data.
RecurrenceKept recurrence_cpu_kept_shapes(const RecurrenceInputs& inputs);

/// Inputs with rows that the kernels can read; owns what a problem points to.
RecurrenceInputs with_plain_rows(RecurrenceInputs inputs);

/// All of the problem but where its sequences lie.
RecurrenceProblem recurrence_problem(const RecurrenceInputs& plain);

/// Uninitialised tensors for all gradients, those of q and k with a row per value head where the kernels write them,
/// and the pointers to them. `empty` allocates one.
struct GradientTensors {
  RecurrenceInputs tensors;
  RecurrenceGradients places;
};
GradientTensors gradient_tensors(const RecurrenceInputs& plain, int64_t sequences,
                                 at::Tensor (*empty)(at::IntArrayRef shape, const at::TensorOptions& options));

/// From what the kernels wrote to gradients of the shapes and dtypes of the inputs; `sum` sums over the first
/// dimension.
RecurrenceInputs finished_gradients(RecurrenceInputs gradients, const RecurrenceInputs& inputs,
                                    at::Tensor (*sum)(const at::Tensor&));

}  // namespace klab::kernels
