// SPDX-License-Identifier: Apache-2.0
// The search for the best constant gates.
#pragma once

#include "experiments/capacity/pairs.h"
#include "experiments/capacity/update_rule.h"

namespace klab {

/// The values that the search tries for a gate: half-lives of 8 to 1/4 tokens per key channel, one token, and none;
/// beta from 0.1 to 2 (above 1: negative eigenvalues).
std::vector<double> gate_values(const GateFields& fields, int64_t key_dim);

/// The gates with the best recall that coordinate search finds from `start`: each of the rule's
/// gates in turn is set to its best value, until none changes. Only strict improvements change a gate, so the result
/// recovers at least as much of `pairs` as `start`.
ConstantGates best_gates(const UpdateRule& rule, const ConstantGates& start, const Pairs& pairs);

}  // namespace klab
