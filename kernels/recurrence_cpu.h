// The recurrence on the hand-written CPU kernels, with and without autograd. Between recurrence.cpp, the operator
// library for Python and kernels/cpu/; nobody else includes this.
#pragma once

#include <string>
#include <vector>

#include "kernels/recurrence.h"

namespace klab::kernels {

/// What the forward pass keeps for the backward pass: T V + T / 64 K V numbers per head.
struct RecurrenceKept {
  at::Tensor corrections;  ///< [B, T, HV, V] float32; empty where the update corrects nothing
  at::Tensor states;       ///< [segments, HV, padded K * padded V] float32, entering every 64th token
};

/// Why the CPU kernels cannot take these inputs, or "".
std::string recurrence_cpu_declines(const RecurrenceInputs& inputs);

/// Checked inputs; `offsets` as sequence_offsets() gives them. Differentiable.
RecurrenceOutputs recurrence_cpu(const RecurrenceInputs& inputs, const std::vector<int64_t>& offsets);

/// Without autograd. Fills `kept` unless it is null.
RecurrenceOutputs recurrence_cpu_forward(const RecurrenceInputs& inputs, const std::vector<int64_t>& offsets,
                                         RecurrenceKept* kept);

/// The gradients in the places of the inputs, in their dtypes. `d_final_state` may be undefined.
RecurrenceInputs recurrence_cpu_backward(const RecurrenceInputs& inputs, const std::vector<int64_t>& offsets,
                                         const RecurrenceKept& kept, const at::Tensor& d_o,
                                         const at::Tensor& d_final_state);

}  // namespace klab::kernels
