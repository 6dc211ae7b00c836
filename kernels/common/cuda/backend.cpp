// SPDX-License-Identifier: Apache-2.0
// The library's only entry point: it returns the table of kernels.
#include "kernels/common/cuda/backend.h"

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

namespace klab::kernels::cuda {
namespace {

constexpr int kOldest = 8, kNewest = 9;  // major compute capabilities that the kernels are compiled for

std::string unsupported_reason(at::Device device) {
  if (!device.is_cuda()) return "the tensors are not on a CUDA device";
  int major = 0, minor = 0;
  const cudaError_t status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index());
  if (status != cudaSuccess) return std::string("CUDA: ") + cudaGetErrorString(status);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device.index());
  const bool built = (major == kOldest) || (major == kNewest && minor == 0);
  if (built) return "";
  return "this build has kernels for compute capability 8.x and 9.0, and the device has " + std::to_string(major) +
         "." + std::to_string(minor) + "; add it to KLAB_CUDA_ARCHITECTURES and rebuild";
}

void* stream(at::Device device) { return c10::cuda::getCurrentCUDAStream(device.index()).stream(); }

#define KLAB_CUDA_ENTRY(kernel) .kernel = kernel,
const Backend built{.unsupported_reason = unsupported_reason, .stream = stream, KLAB_CUDA_KERNELS(KLAB_CUDA_ENTRY)};
#undef KLAB_CUDA_ENTRY

}  // namespace
}  // namespace klab::kernels::cuda

/// recurrence_last_plan(), for benchmarks in Python.
extern "C" __attribute__((visibility("default"))) const char* klab_cuda_last_plan() {
  return klab::kernels::cuda::recurrence_last_plan();
}

/// The table, or null if the caller was built for another version of it.
extern "C" __attribute__((visibility("default"))) const klab::kernels::cuda::Backend* klab_cuda_backend(int version) {
  return version == klab::kernels::cuda::kBackendVersion ? &klab::kernels::cuda::built : nullptr;
}
