// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/device.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <torch/cuda.h>

#include "core/base/error.h"
#include "core/parallel/rank_environment.h"

namespace klab {

torch::Device open_device(const std::string& name) {
  if (name == "cpu") return torch::kCPU;
  if (::dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    fail("--device cuda: torch's CUDA library cannot be loaded: {}", ::dlerror());
  }
  if (!torch::cuda::is_available()) {
    fail(
        "--device cuda: no CUDA device is usable on this machine (no GPU, or its driver is missing or too old); "
        "use --device cpu");
  }
  // Ranks of one machine take its GPUs in turn.
  const int64_t gpus{torch::cuda::device_count()};
  const torch::Device device(torch::kCUDA, static_cast<c10::DeviceIndex>(rank_environment().local_rank % gpus));
  c10::impl::VirtualGuardImpl(torch::kCUDA).setDevice(device);
  return device;
}

}  // namespace klab
