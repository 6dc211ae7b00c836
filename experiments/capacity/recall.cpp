// SPDX-License-Identifier: Apache-2.0
#include "experiments/capacity/recall.h"

#include <torch/types.h>

namespace klab {

using torch::Tensor;

Tensor written_states(const UpdateRule& rule, const std::vector<ConstantGates>& candidates, const Pairs& pairs,
                      kernels::Implementation implementation) {
  return kernels::recurrence(write_inputs(rule, candidates, pairs.keys, pairs.values()), implementation).final_state;
}

Tensor least_squares_states(const Pairs& pairs) {
  constexpr double kRidge = 1e-12;  // bounds the solution for keys that are linearly dependent to rounding
  const Tensor X = pairs.asked_keys().to(torch::kDouble), Xt = X.mT();  // [B, N, K]
  const Tensor Y = pairs.vocabulary.gather(1, pairs.asked_values().unsqueeze(-1).expand_as(X)).to(torch::kDouble);
  const auto damped = [](const Tensor& gram) { return gram + kRidge * torch::eye(gram.size(-1), gram.options()); };
  const bool underdetermined = X.size(1) <= X.size(2);
  const Tensor S = underdetermined ? Xt.matmul(at::linalg_solve(damped(X.matmul(Xt)), Y))
                                   : at::linalg_solve(damped(Xt.matmul(X)), Xt.matmul(Y));
  return S.unsqueeze(1);
}

std::vector<Recall> recall(const Tensor& states, const Pairs& pairs) {
  const int64_t B = states.size(0), G = states.size(1), N = pairs.last.size(1);
  const Tensor read = pairs.asked_keys().to(states.scalar_type()).unsqueeze(1).matmul(states).flatten(1, 2);
  const Tensor scores = read.matmul(pairs.vocabulary.to(states.scalar_type()).mT());  // [B, G * N, M]
  const Tensor answers = pairs.asked_values().unsqueeze(1).expand({B, G, N}).reshape({B, G * N, 1});
  const Tensor right = scores.gather(-1, answers).squeeze(-1);  // [B, G * N]
  const auto mean = [&](const Tensor& x) {
    return x.view({B, G, N}).to(torch::kDouble).mean(at::IntArrayRef({0, 2})).contiguous();
  };
  const Tensor share = mean(right >= scores.amax(-1)), cosine = mean(right / read.norm(2, -1));
  std::vector<Recall> recalls;
  for (int64_t i = 0; i < G; ++i) recalls.push_back({share.data_ptr<double>()[i], cosine.data_ptr<double>()[i]});
  return recalls;
}

}  // namespace klab
