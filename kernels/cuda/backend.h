// The CUDA kernels as a table, so that the rest of kernels/ is the same source whether CUDA is built or not, and so
// that the tests can put the same kernels, run by an emulation on the host, in its place.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "kernels/cuda/kda_gate.h"
#include "kernels/cuda/latent_attention.h"
#include "kernels/cuda/norms.h"
#include "kernels/cuda/recurrence.h"
#include "kernels/cuda/short_conv.h"

namespace klab::kernels::cuda {

struct Backend {
  /// Why no kernel can take tensors of this device, or "".
  std::string (*declines)(at::Device device) = nullptr;
  /// The device's current stream, a cudaStream_t.
  void* (*stream)(at::Device device) = nullptr;

  decltype(&cuda::recurrence_forward) recurrence_forward = nullptr;
  decltype(&cuda::recurrence_forward_workspace) recurrence_forward_workspace = nullptr;
  decltype(&cuda::recurrence_step) recurrence_step = nullptr;
  decltype(&cuda::recurrence_backward) recurrence_backward = nullptr;
  decltype(&cuda::recurrence_backward_workspace) recurrence_backward_workspace = nullptr;

  decltype(&cuda::norm_forward) norm_forward = nullptr;
  decltype(&cuda::norm_backward) norm_backward = nullptr;
  decltype(&cuda::norm_backward_workspace) norm_backward_workspace = nullptr;

  decltype(&cuda::kda_gate_forward) kda_gate_forward = nullptr;
  decltype(&cuda::kda_gate_backward) kda_gate_backward = nullptr;
  decltype(&cuda::kda_gate_backward_workspace) kda_gate_backward_workspace = nullptr;

  decltype(&cuda::short_conv_forward) short_conv_forward = nullptr;
  decltype(&cuda::short_conv_backward) short_conv_backward = nullptr;
  decltype(&cuda::short_conv_backward_workspace) short_conv_backward_workspace = nullptr;

  decltype(&cuda::latent_attention) latent_attention = nullptr;
  decltype(&cuda::latent_attention_workspace) latent_attention_workspace = nullptr;
};

/// The backend in use: that of this build, unless a test has put another in its place.
const Backend& backend();
void use_backend(const Backend* backend);  ///< null: that of this build

/// That of this build; one that declines everything where CUDA is not built.
extern const Backend built_backend;

}  // namespace klab::kernels::cuda
