// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/device.h"

#include <dlfcn.h>
#include <torch/cuda.h>

#include "core/base/error.h"

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
  return torch::kCUDA;
}

}  // namespace klab
