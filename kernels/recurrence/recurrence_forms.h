// SPDX-License-Identifier: Apache-2.0
// The forms of the recurrence that are composed of ATen operators. Internal to kernels/recurrence/.
#pragma once

#include "kernels/recurrence/recurrence.h"

namespace klab::kernels {

/// Inputs prepared for these forms: checked, in the accumulation dtype, q scaled, heads expanded to HV, one sequence
/// per batch row: q, k, a, b [N, T, HV, K], v [N, T, HV, V], g undefined or [N, T, HV, 1 or K], beta [N, T, HV, 1],
/// initial_state [N, HV, K, V] defined.
using PreparedInputs = RecurrenceInputs;

/// Token by token, following the definition.
RecurrenceOutputs recurrence_reference(const PreparedInputs& inputs);

/// Chunkwise parallel form, by matrix products (section 3.1 of arXiv 2510.26692).
RecurrenceOutputs recurrence_chunk(const PreparedInputs& inputs);

}  // namespace klab::kernels
