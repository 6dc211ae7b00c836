// SPDX-License-Identifier: Apache-2.0
// A control for race detectors: a small kernel that hands numbers from some warps to others by named barriers, as
// the chunk kernels hand stages from producers to consumers (pipeline.cuh), and that has no race.
#pragma once

#include <c10/core/Device.h>

namespace klab {

/// Runs the kernel on `device` and prints a CSV row. Returns whether the sum of the numbers is right.
bool check_barriers(at::Device device);

}  // namespace klab
