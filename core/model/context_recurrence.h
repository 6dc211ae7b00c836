// SPDX-License-Identifier: Apache-2.0
// The recurrence over a rank's part of sequences that are cut over ranks.
#pragma once

#include <torch/types.h>

#include "core/model/context_part.h"
#include "kernels/recurrence/recurrence.h"

namespace klab {

/// The outputs o [1, T, HV, V] of this rank's tokens; `in` without initial state. Each rank first computes what its
/// tokens of its last sequence do to any memory, which is affine in the memory, and sends only this: K (K + V) numbers
/// per head, see memory_before(). Differentiable; an operation of all ranks.
torch::Tensor context_recurrence(kernels::RecurrenceInputs in, const Sequences& sequences);

/// The memories before the N sequences of this rank's part, [N, HV, K, V]: memory_before() for the first, which may
/// have begun on an earlier rank, and zeros for the others. An operation of all ranks.
torch::Tensor states_before(const Sequences& sequences, const torch::Tensor& transition, const torch::Tensor& written);

}  // namespace klab
