// The backend of a build with CUDA.
#include "kernels/cuda/backend.h"

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

namespace klab::kernels::cuda {
namespace {

constexpr int kOldest = 8, kNewest = 9;  // major numbers of the architectures that the kernels are compiled for

std::string declines(at::Device device) {
  if (!device.is_cuda()) return "the tensors are not on a CUDA device";
  int major = 0, minor = 0;
  const cudaError_t status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index());
  if (status != cudaSuccess) return std::string("CUDA: ") + cudaGetErrorString(status);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device.index());
  const bool built = (major == kOldest) || (major == kNewest && minor == 0);
  if (built) return "";
  return "this build has kernels for compute capability 8.x and 9.0, and the device has " + std::to_string(major) +
         "." + std::to_string(minor) + "; add it to KLAB_CUDA_ARCHITECTURES and build again";
}

void* stream(at::Device device) { return c10::cuda::getCurrentCUDAStream(device.index()).stream(); }

}  // namespace

const Backend built_backend{declines,
                            stream,
                            recurrence_forward,
                            recurrence_forward_workspace,
                            recurrence_step,
                            recurrence_backward,
                            recurrence_backward_workspace,
                            norm_forward,
                            norm_backward,
                            norm_backward_workspace,
                            kda_gate_forward,
                            kda_gate_backward,
                            kda_gate_backward_workspace,
                            short_conv_forward,
                            short_conv_backward,
                            short_conv_backward_workspace,
                            latent_attention,
                            latent_attention_workspace};

}  // namespace klab::kernels::cuda
