// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels as a table of functions. They are a separate library, loaded at the first call with a CUDA tensor.
// So the rest of kernels/ is the same with and without CUDA, and tests can run the kernels in an emulation.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "kernels/attention/cuda/latent_attention.h"
#include "kernels/kda_gate/cuda/kda_gate.h"
#include "kernels/norms/cuda/norms.h"
#include "kernels/recurrence/cuda/recurrence.h"
#include "kernels/short_conv/cuda/short_conv.h"

namespace klab::kernels::cuda {

/// Every kernel's entry point: declared in kernels/<op>/cuda/<op>.h, defined in the .cu files.
#define KLAB_CUDA_KERNELS(X)        \
  X(recurrence_forward)             \
  X(recurrence_forward_workspace)   \
  X(recurrence_last_plan)           \
  X(recurrence_shared_memory)       \
  X(recurrence_shared_memory_limit) \
  X(recurrence_step)                \
  X(recurrence_backward)            \
  X(recurrence_backward_workspace)  \
  X(norm_forward)                   \
  X(norm_backward)                  \
  X(norm_backward_workspace)        \
  X(kda_gate_forward)               \
  X(kda_gate_backward)              \
  X(kda_gate_backward_workspace)    \
  X(short_conv_forward)             \
  X(short_conv_backward)            \
  X(short_conv_backward_workspace)  \
  X(latent_attention)               \
  X(latent_attention_workspace)

struct Backend {
  /// Why the kernels cannot run on this device, or "".
  std::string (*unsupported_reason)(at::Device device) = nullptr;
  /// The device's current stream, a cudaStream_t.
  void* (*stream)(at::Device device) = nullptr;

#define KLAB_CUDA_MEMBER(kernel) decltype(&cuda::kernel) kernel = nullptr;
  KLAB_CUDA_KERNELS(KLAB_CUDA_MEMBER)
#undef KLAB_CUDA_MEMBER
};

/// The version that the loaded library must have. Change it with the table or the signatures of its functions.
constexpr int kBackendVersion = 3;

/// The table in use. Its functions are null until `unsupported_reason` of a CUDA device returned "".
const Backend& backend();
/// Whether the library of CUDA kernels can be loaded or has been replaced.
bool available();
/// Replaces the table, for tests; null restores the library of this build.
void use_backend(const Backend* backend);

}  // namespace klab::kernels::cuda
