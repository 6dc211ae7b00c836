// SPDX-License-Identifier: Apache-2.0
// Error check for CUDA API calls.
#pragma once

#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

namespace klab::kernels::cuda {

/// Throws c10::Error with CUDA's message, the expression and its location. Use `KLAB_CUDA_CHECK(cudaGetLastError())`
/// after every launch.
inline void throw_unless_success(cudaError_t status, const char* expression, const char* file, int line) {
  TORCH_CHECK(status == cudaSuccess, "CUDA: ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ") from ",
              expression, " at ", file, ":", line);
}

}  // namespace klab::kernels::cuda

#define KLAB_CUDA_CHECK(expression) \
  ::klab::kernels::cuda::throw_unless_success((expression), #expression, __FILE__, __LINE__)
