// The last step of every gradient that all rows share.
#pragma once

#include <cstdint>

namespace klab::kernels::cuda {

/// sum [width] of parts [count, width], all in device memory: the same bits whenever `count` is the same.
void sum_parts(const float* parts, int64_t count, int64_t width, float* sum, void* stream);

}  // namespace klab::kernels::cuda
