// SPDX-License-Identifier: Apache-2.0
#include "core/inspect/recurrence_view.h"

#include <torch/nn/module.h>

#include "core/base/error.h"

namespace klab {
namespace {

using kernels::RecurrenceInputs;
using torch::Tensor;

constexpr int64_t kBlock = 256;  // the largest V that the kernels support

// Activated inputs with a zero initial state, in the accumulation dtype.
RecurrenceInputs from_nothing(const RecurrenceInputs& given) {
  if (given.cu_seqlens.defined()) refuse("packed sequences are not supported here: use one sequence per batch row");
  RecurrenceInputs in = kernels::activated(given);
  in.initial_state = Tensor();
  in.overwrite_state = in.output_all_states = false;
  const auto dtype = in.v.scalar_type() == torch::kDouble ? torch::kDouble : torch::kFloat;
  for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.a, &in.b}) {
    if (x->defined()) *x = x->to(dtype);
  }
  return in;
}

}  // namespace

Tensor implicit_attention(const RecurrenceInputs& given) {
  const torch::NoGradGuard no_grad;
  const RecurrenceInputs in = from_nothing(given);
  const int64_t B = in.v.size(0), T = in.q.size(1), HV = in.v.size(2), writes = in.writes;
  Tensor A = torch::zeros({B, HV, T, T * writes}, in.v.options());
  for (int64_t first = 0; first < T; first += kBlock / writes) {
    // The state is zero as long as v is zero, so the tokens before the block can be skipped.
    const int64_t rest = T - first, rows = rest * writes, columns = std::min(kBlock / writes * writes, rows);
    RecurrenceInputs block = kernels::tokens_of(in, first, rest);
    const Tensor identity = torch::eye(rows, columns, in.v.options());
    block.v = identity.view({1, rows, 1, columns}).expand({B, rows, HV, columns}).contiguous();
    const Tensor o = kernels::recurrence(block).o;  // [B, rest, HV, columns]
    A.narrow(2, first, rest).narrow(3, first * writes, columns).copy_(o.transpose(1, 2));
  }
  return A;
}

Tensor states_after(const RecurrenceInputs& given, const std::vector<int64_t>& tokens) {
  const torch::NoGradGuard no_grad;
  RecurrenceInputs in = from_nothing(given);
  std::vector<Tensor> states;
  int64_t done = 0;
  for (const int64_t count : tokens) {
    if (count <= done || count > in.q.size(1)) {
      refuse("the state after {} tokens: token counts must be increasing and lie in 1..{}", count, in.q.size(1));
    }
    states.push_back(kernels::recurrence(kernels::tokens_of(in, done, count - done)).final_state);
    in.initial_state = states.back();
    done = count;
  }
  if (states.empty()) refuse("token counts are missing: after which tokens to return the state");
  return torch::stack(states);
}

Tensor effective_rank(const Tensor& matrices) {
  const torch::NoGradGuard no_grad;
  const Tensor values = torch::linalg_svdvals(matrices.to(torch::kCPU, torch::kDouble));  // [.., min(K, V)]
  const Tensor sum = values.sum(-1, /*keepdim=*/true), nothing = sum.eq(0);
  const Tensor shares = values / sum.masked_fill(nothing, 1);
  const Tensor entropy = -torch::xlogy(shares, shares).sum(-1);
  return entropy.exp().masked_fill(nothing.squeeze(-1), 0);
}

}  // namespace klab
