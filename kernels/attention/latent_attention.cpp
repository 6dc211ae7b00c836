// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/latent_attention.h"

#include <ATen/ATen.h>

#include "kernels/attention/attention.h"
#include "kernels/attention/cpu/latent_attention.h"
#include "kernels/attention/latent_attention_cuda.h"
#include "kernels/common/checks.h"
#include "kernels/common/cuda/backend.h"
#include "kernels/common/kernel_choice.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/common/operator.h"

namespace klab::kernels {
namespace {

using at::Tensor;

constexpr const char* kOp = "latent_attention";

void check(const LatentAttentionInputs& in) {
  TORCH_CHECK_VALUE(in.q.defined(), kOp, ": q is missing");
  check_tensor(kOp, "q", in.q, {-1, -1, -1, -1}, in.q);
  check_tensor(kOp, "cache", in.cache, {in.q.size(0), -1, in.q.size(3)}, in.q);
  TORCH_CHECK_VALUE(in.value_dim >= 1 && in.value_dim <= in.q.size(3), kOp, ": value_dim = ", in.value_dim,
                    ", but must lie in 1..", in.q.size(3), ", the width of a row");
  TORCH_CHECK_VALUE(in.cache.size(1) >= in.q.size(1), kOp, ": ", in.q.size(1), " queries, but only ", in.cache.size(1),
                    " cached rows: the queries' own rows are among them");
}

std::string latent_attention_cpu_unsupported_reason(const LatentAttentionInputs& in) {
  if (records_gradient({in.q, in.cache})) return "it has no backward pass and a gradient is needed";
  return cpu_unsupported_reason({in.q, in.cache});
}

// As attention with one key head, whose values are the first value_dim channels of its keys.
AttentionInputs as_attention(const LatentAttentionInputs& in) {
  const Tensor keys = in.cache.unsqueeze(2);
  return {in.q, keys, keys.narrow(3, 0, in.value_dim), {}, in.scale};
}

void on_cpu(const LatentProblem& problem, const Tensor& q) {
  const Tensor space = float_workspace(cpu::latent_workspace(problem), q);
  cpu::latent_attention(problem, floats(space));
}

Tensor fused(const LatentAttentionInputs& in, void (*run)(const LatentProblem&, const Tensor&)) {
  const Tensor q = with_plain_rows(in.q), cache = with_plain_rows(in.cache.unsqueeze(2));
  const int64_t B = q.size(0), T = q.size(1), H = q.size(2);
  const Tensor o = empty_result({B, T, H, in.value_dim}, q.options());
  if (o.numel() == 0) return o;
  LatentProblem problem;
  problem.B = B;
  problem.T = T;
  problem.H = H;
  problem.S = cache.size(1);
  problem.width = q.size(3);
  problem.value_dim = in.value_dim;
  problem.scale = static_cast<float>(in.scale);
  problem.q = rows_of(q);
  problem.cache = rows_of(cache);
  problem.o = mutable_rows_of(o);
  run(problem, q);
  return o;
}

// --- The operator klab::latent_attention --------------------------------------------------------------------------

struct LatentAttentionOperator {
  using Inputs = LatentAttentionInputs;
  static constexpr const char* kName = kOp;
  static constexpr std::array kOutputs = {"o"};
  static constexpr std::array<const char*, 0> kKept{};
  static constexpr const char* kDerivatives = "not differentiable";

  static Tensors forward(const Inputs& in, Implementation implementation, bool) {
    return {latent_attention(in, implementation)};
  }

  static Tensors shapes(const Inputs& in, Implementation, bool) {
    const Tensor& q = in.q;
    return {at::empty_symint({q.sym_size(0), q.sym_size(1), q.sym_size(2), in.value_dim}, q.options())};
  }
};

}  // namespace

template <InputsOf<LatentAttentionInputs> Self, class Visit>
void each_argument(Self& in, Visit&& visit) {
  visit(TensorArgument{"q", Role::operand, /*required=*/true}, in.q);
  visit(TensorArgument{"cache", Role::operand, /*required=*/true}, in.cache);
  visit(Option{"value_dim"}, in.value_dim);
  visit(Option{"scale"}, in.scale);
}

Tensor latent_attention(const LatentAttentionInputs& in, Implementation implementation) {
  check(in);
  const UnsupportedReasons unsupported{latent_attention_cuda_unsupported_reason(in),
                                       latent_attention_cpu_unsupported_reason(in)};
  switch (choose_implementation(kOp, implementation, in.q, unsupported,
                                {Implementation::composed, Implementation::reference})) {
    case Implementation::reference: return attention(as_attention(in), Implementation::reference);
    case Implementation::cpu: return fused(in, on_cpu);
    case Implementation::cuda: return fused(in, latent_attention_cuda);
    default: return attention(as_attention(in), Implementation::composed);
  }
}

std::vector<Implementation> latent_attention_implementations() {
  std::vector<Implementation> all{Implementation::reference, Implementation::composed, Implementation::cpu};
  if (cuda::available()) all.push_back(Implementation::cuda);
  return all;
}

}  // namespace klab::kernels

TORCH_LIBRARY_FRAGMENT(klab, library) {
  klab::kernels::register_operator<klab::kernels::LatentAttentionOperator>(library);
}
