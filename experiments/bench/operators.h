// SPDX-License-Identifier: Apache-2.0
// Random inputs of operators, for the figures that time them.
#pragma once

#include <torch/types.h>

#include <string>

#include "kernels/recurrence/recurrence.h"

namespace klab {

struct OperatorShape {
  int64_t tokens, heads, width;
  torch::TensorOptions options;  ///< dtype and device
};

/// Inputs of kda, gdn or dplr, one sequence: unit keys, mild decays.
kernels::RecurrenceInputs operator_inputs(const std::string& mixer, const OperatorShape& shape);

}  // namespace klab
