// The recurrence on hand-written kernels: what those of the CPU and of CUDA have in common. Between recurrence.cpp, the
// operator library for Python, recurrence_cpu.cpp and recurrence_cuda.cpp; nobody else includes this.
#pragma once

#include "kernels/recurrence/recurrence.h"
#include "kernels/recurrence/recurrence_problem.h"

namespace klab::kernels {

/// What a forward pass keeps for the backward pass. CUDA keeps nothing and makes the states again.
struct RecurrenceKept {
  at::Tensor corrections;  ///< [B, T, HV, V] float32; empty where the update corrects nothing
  at::Tensor states;       ///< [segments, HV, padded K * padded V] float32, entering every 64th token
};

/// Kernels of one device. All take checked inputs and leave autograd alone.
struct FusedRecurrence {
  const char* name;  ///< "CPU"
  /// Fills `kept` unless it is null.
  RecurrenceOutputs (*forward)(const RecurrenceInputs& inputs, RecurrenceKept* kept);
  /// The gradients in the places of the inputs, in their dtypes. `d_final_state` may be undefined.
  RecurrenceInputs (*backward)(const RecurrenceInputs& inputs, const RecurrenceKept& kept, const at::Tensor& d_o,
                               const at::Tensor& d_final_state);
};

extern const FusedRecurrence cpu_recurrence, cuda_recurrence;

/// Why the kernels cannot take these inputs, or "".
std::string recurrence_cpu_unsupported_reason(const RecurrenceInputs& inputs);
std::string recurrence_cuda_unsupported_reason(const RecurrenceInputs& inputs, bool with_backward);

/// The kernels that `implementation` stands for on these inputs, null where it is a composed form. `with_backward`: of
/// the backward pass, or of a forward pass before one. Throws c10::NotImplementedError for kernels that cannot run.
const FusedRecurrence* fused_recurrence(const RecurrenceInputs& inputs, Implementation implementation,
                                        bool with_backward);

/// Differentiable.
RecurrenceOutputs run_fused(const FusedRecurrence& kernels, const RecurrenceInputs& inputs);

/// Whether autograd is to follow one of the inputs.
bool needs_gradient(const RecurrenceInputs& inputs);

/// Inputs with rows that the kernels can take; owns what a problem points to.
RecurrenceInputs with_plain_rows(RecurrenceInputs inputs);

/// All of the problem but where its sequences lie.
RecurrenceProblem recurrence_problem(const RecurrenceInputs& plain);

/// Tensors for all gradients, those of q and k one row per value head where the kernels write them, and where they are.
/// `empty_like` makes them, of a dtype.
struct GradientTensors {
  RecurrenceInputs tensors;
  RecurrenceGradients places;
};
GradientTensors gradient_tensors(const RecurrenceInputs& plain, int64_t sequences,
                                 at::Tensor (*empty)(at::IntArrayRef shape, const at::TensorOptions& options));

/// From what the kernels wrote to gradients of the shapes and dtypes of the inputs; `sum` adds up the first dimension.
RecurrenceInputs finished_gradients(RecurrenceInputs gradients, const RecurrenceInputs& inputs,
                                    at::Tensor (*sum)(const at::Tensor&));

}  // namespace klab::kernels
