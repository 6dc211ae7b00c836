// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/support.h"

#include <torch/nn/module.h>

#include <limits>

namespace klab {

Inspection sample_inspection() {
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  const auto numbers = torch::TensorOptions(torch::kDouble);
  Inspection found;
  found.options.run = "runs/sample";
  found.step = 40;
  found.parameters = 1234;
  found.shown_tokens = 3;
  found.rank_tokens = {1, 3};
  found.drawn = {{4, 5, 4}, {-1, -1, 5}, {"a", "b", "a"}, {"", "", "b"}, {{2, 5, 4, 0.25}}, {"a"}};
  found.accuracy = {"", 3, "distance", {3.0, 0, 0, 8, 6, 4, 3}, {{1, {1.0, 0, 0, 2, 2}}, {4, {2.0, 0, 0, 6, 4}}}};

  MixerView linear{0, -1, "kda"};
  linear.linear = true;
  linear.weights = torch::tensor({1.0, 0.0, 0.0, -0.5, 1.0, 0.0, 0.0, 0.25, 1.0}).view({1, 3, 3}).repeat({2, 1, 1});
  linear.decays.mean_g = torch::tensor({-0.5, 0.0, -0.25, -1.0}, numbers).view({2, 2});
  linear.decays.half_life = torch::tensor({1.5, kInfinite, 3.0, 0.0}, numbers).view({2, 2});
  linear.decays.resets = torch::tensor({0.0, 0.0, 0.125, 1.0}, numbers).view({2, 2});
  linear.ranks = torch::tensor({1.0, 2.0, 1.0, 1.5, 1.0, 2.5, 1.0, 1.25}, numbers).view({2, 2, 2});  // [E, HV, P]

  MixerView softmax{1, 1, "mla"};
  softmax.weights = torch::tensor({1.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.25, 0.25, 0.5}).view({1, 3, 3}).repeat({2, 1, 1});
  found.mixers = {linear, softmax};
  return found;
}

}  // namespace klab
