// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/latent_attention_cuda.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "kernels/common/cuda/backend.h"
#include "kernels/common/kernel_choice.h"
#include "kernels/common/kernel_tensors.h"

namespace klab::kernels {

using at::Tensor;

std::string latent_attention_cuda_unsupported_reason(const LatentAttentionInputs& in) {
  if (records_gradient({in.q, in.cache})) return "it has no backward pass and a gradient is needed";
  if (in.q.scalar_type() != in.cache.scalar_type()) return "q and cache have different dtypes";
  if (in.value_dim > cuda::kWidestLatent || in.q.size(3) > cuda::kWidestLatentRow) {
    return c10::str("value_dim is ", in.value_dim, " (at most ", cuda::kWidestLatent, ") and the row width ",
                    in.q.size(3), " (at most ", cuda::kWidestLatentRow, ")");
  }
  return cuda_unsupported_reason({in.q, in.cache});
}

void latent_attention_cuda(const LatentProblem& problem, const Tensor& q) {
  const c10::OptionalDeviceGuard guard(q.device());
  const cuda::Backend& cuda = cuda::backend();
  const Tensor space = workspace(cuda.latent_attention_workspace(problem), q);
  cuda.latent_attention(problem, space.data_ptr(), cuda.stream(q.device()));
}

}  // namespace klab::kernels
