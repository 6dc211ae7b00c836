// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

namespace klab::emulation {

using namespace kernels::cuda;

const Backend& emulated_backend() {
  static const Backend backend{.unsupported_reason = [](at::Device device) -> std::string {
                                 return device.is_cpu() ? "" : "the emulation runs on the host";
                               },
                               .stream = [](at::Device) -> void* { return nullptr; },
#define KLAB_CUDA_ENTRY(kernel) .kernel = kernel,
                               KLAB_CUDA_KERNELS(KLAB_CUDA_ENTRY)
#undef KLAB_CUDA_ENTRY
  };
  return backend;
}

}  // namespace klab::emulation
