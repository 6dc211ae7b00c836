// The backend of a build without CUDA.
#include "kernels/cuda/backend.h"

namespace klab::kernels::cuda {

const Backend built_backend{.declines = [](at::Device) -> std::string {
  return "this build has no CUDA kernels (nvcc was not found when it was configured); install the CUDA toolkit and "
         "build again";
}};

}  // namespace klab::kernels::cuda
