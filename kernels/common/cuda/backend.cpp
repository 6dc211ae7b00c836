// SPDX-License-Identifier: Apache-2.0
// The library's only entry point: it returns the table of kernels.
#include "kernels/common/cuda/backend.h"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <array>
#include <atomic>

#include "kernels/common/cuda/sum.h"

namespace klab::kernels::cuda {
namespace {

constexpr int kMostDevices = 64;
enum class Code : uint8_t { unknown, present, absent };

// Asked once per device, because every call of an operator asks.
bool has_code(int device) {
  static std::array<std::atomic<Code>, kMostDevices> known{};
  std::atomic<Code>& code = known.at(static_cast<size_t>(device));
  if (code == Code::unknown) code = kernels_have_code() ? Code::present : Code::absent;
  return code == Code::present;
}

std::string unsupported_reason(at::Device device) {
  if (!device.is_cuda()) return "the tensors are not on a CUDA device";
  const c10::cuda::OptionalCUDAGuard guard(device);
  int major = 0, minor = 0;
  const cudaError_t status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index());
  if (status != cudaSuccess) return std::string("CUDA: ") + cudaGetErrorString(status);
  if (has_code(device.index())) return "";
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device.index());
  return "this build has no kernels for compute capability " + std::to_string(major) + "." + std::to_string(minor) +
         "; add it to KLAB_CUDA_ARCHITECTURES and rebuild";
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
