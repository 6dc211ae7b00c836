// Times of operators, for figures; klab bench has the ceilings beside them.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace klab {

/// Median seconds of a call, over at least three and for about `budget` seconds, after one that warms up. Waits for the
/// device of `like`.
double median_seconds(const std::function<void()>& call, const at::Tensor& like, double budget = 0.5);

}  // namespace klab
