// SPDX-License-Identifier: Apache-2.0
#include "experiments/bench/operators.h"

#include <torch/nn/module.h>

#include "core/base/error.h"

namespace klab {

kernels::RecurrenceInputs operator_inputs(const std::string& mixer, const OperatorShape& s) {
  torch::manual_seed(1);
  const auto draw = [&](const std::vector<int64_t>& sizes) {
    return torch::randn(sizes, torch::TensorOptions().device(s.options.device()));
  };
  const auto unit = [&] {
    const torch::Tensor x = draw({1, s.tokens, s.heads, s.width});
    return x / x.norm(2, -1, true);
  };
  const auto as = [&](const torch::Tensor& x) { return x.to(s.options.dtype()); };
  kernels::RecurrenceInputs in;
  in.q = as(unit());
  in.k = as(unit());
  in.v = as(draw({1, s.tokens, s.heads, s.width}));
  const torch::Tensor beta = torch::sigmoid(draw({1, s.tokens, s.heads}));
  const torch::Tensor decays = -0.1 * draw({1, s.tokens, s.heads, s.width}).abs();
  if (mixer == "gdn") {
    in.g = as(decays.select(-1, 0));
    in.beta = as(beta);
  } else if (mixer == "kda") {
    in.g = as(decays);
    in.beta = as(beta);
  } else if (mixer == "dplr") {
    const torch::Tensor direction = unit();
    in.g = as(decays);
    in.a = as(-direction);
    in.b = as(direction * beta.unsqueeze(-1));
  } else {
    fail("there are no inputs for '{}'", mixer);
  }
  return in;
}

}  // namespace klab
