// SPDX-License-Identifier: Apache-2.0
// Timing of operators, for figures. `klab bench` also measures the machine's ceilings.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace klab {

/// Median seconds per call, over at least three calls and about `budget` seconds, after a warm-up call. Synchronises
/// with the device of `like`.
double median_seconds(const std::function<void()>& call, const at::Tensor& like, double budget = 0.5);

}  // namespace klab
