// SPDX-License-Identifier: Apache-2.0
// The last step of gradients that are summed over all rows: the sum of partial sums.
#pragma once

#include <cstdint>

namespace klab::kernels::cuda {

/// sum [width] of parts [count, width], all in device memory. Deterministic: bitwise the same for the same `count`.
void sum_parts(const float* parts, int64_t count, int64_t width, float* sum, void* stream);

/// Whether this build has kernels that run on the current device.
bool kernels_have_code();

}  // namespace klab::kernels::cuda
