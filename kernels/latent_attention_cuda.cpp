#include "kernels/latent_attention_cuda.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "kernels/cpu_tensors.h"
#include "kernels/cuda/backend.h"
#include "kernels/kernel_choice.h"

namespace klab::kernels {

using at::Tensor;

std::string latent_attention_cuda_declines(const LatentAttentionInputs& in) {
  if (needs_gradient({in.q, in.cache})) return "it has no backward pass and a gradient is needed";
  if (in.q.scalar_type() != in.cache.scalar_type()) return "q and cache have different dtypes";
  if (in.value_dim > cuda::kWidestLatent || in.q.size(3) > cuda::kWidestLatentRow) {
    return c10::str("it takes value_dim up to ", cuda::kWidestLatent, " of rows up to ", cuda::kWidestLatentRow,
                    " wide, not ", in.value_dim, " of ", in.q.size(3));
  }
  return cuda_kernels_decline({in.q, in.cache});
}

Tensor latent_attention_cuda(const LatentAttentionInputs& in) {
  const c10::OptionalDeviceGuard guard(in.q.device());
  const Tensor q = with_plain_rows(in.q), cache = with_plain_rows(in.cache.unsqueeze(2));
  const Tensor o = at::empty({q.size(0), q.size(1), q.size(2), in.value_dim}, q.options());
  if (o.numel() == 0) return o;
  cuda::LatentProblem problem;
  problem.B = q.size(0);
  problem.T = q.size(1);
  problem.H = q.size(2);
  problem.S = cache.size(1);
  problem.width = q.size(3);
  problem.value_dim = in.value_dim;
  problem.scale = static_cast<float>(in.scale);
  problem.q = rows_of(q);
  problem.cache = rows_of(cache);
  problem.o = mutable_rows_of(o);
  const cuda::Backend& cuda = cuda::backend();
  const Tensor workspace =
      at::empty({static_cast<int64_t>(cuda.latent_attention_workspace(problem))}, q.options().dtype(at::kByte));
  cuda.latent_attention(problem, workspace.data_ptr(), cuda.stream(q.device()));
  return o;
}

}  // namespace klab::kernels
