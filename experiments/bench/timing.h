// SPDX-License-Identifier: Apache-2.0
// Timing of operators, for figures. `klab bench` also measures the machine's ceilings.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace klab {

/// The middle one of at least one value; of an even number, the larger of the two in the middle.
double median(std::vector<double> values);

/// Median seconds per call, over at least three calls and about `budget` seconds, after a warm-up call. Synchronises
/// with the device of `like`.
double median_seconds(const std::function<void()>& call, const at::Tensor& like, double budget = 0.5);

}  // namespace klab
