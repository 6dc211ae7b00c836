// SPDX-License-Identifier: Apache-2.0
// Outputs and gradients of a function of named tensors.
#pragma once

#include <cstdint>
#include <functional>

#include "core/check/cases.h"

namespace klab {

using NamedFunction = std::function<NamedTensors(const NamedTensors&)>;

/// Weights w of the loss sum(output * w) over all outputs: normal, float64, rounded to `dtype`, so that the output
/// gradients are the same in `dtype` and in float64.
NamedTensors loss_weights(const NamedTensors& outputs, at::ScalarType dtype, uint64_t seed);

/// The outputs of `function`, without gradients.
NamedTensors forward(const NamedFunction& function, const NamedTensors& inputs);

/// The outputs, then the gradient of the loss above for every floating-point input, named "d_<input>"; zeros if the
/// outputs do not depend on the input. Does not modify `inputs`.
NamedTensors forward_and_backward(const NamedFunction& function, const NamedTensors& inputs,
                                  const NamedTensors& weights);

}  // namespace klab
