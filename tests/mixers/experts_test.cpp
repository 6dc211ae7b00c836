// SPDX-License-Identifier: Apache-2.0
// Mixture of experts: routing, load balance, cost.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <numeric>

#include "core/check/compare.h"
#include "core/train/adamw.h"
#include "mixers/products.h"
#include "mixers/support.h"

namespace klab {
namespace {

RankGroup alone;

using torch::Tensor;

constexpr int64_t kWidth = 10, kExpertWidth = 7;

MoeConfig config_of(const std::vector<Assignment>& assignments) {
  MoeConfig config;
  assign(config, assignments);
  config.validate();
  return config;
}

const std::vector<Assignment> kGrouped = {{"experts", "12", ""},       {"experts_per_token", "4", ""},
                                          {"groups", "4", ""},         {"groups_per_token", "2", ""},
                                          {"shared_experts", "2", ""}, {"scaling", "1.7", ""}};

std::shared_ptr<MixtureOfExperts> drawn(const MoeConfig& config, uint64_t seed = 1) {
  const auto moe = std::make_shared<MixtureOfExperts>(kWidth, kExpertWidth, config);
  const torch::NoGradGuard no_grad;
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (const auto& parameter : moe->parameters()) parameter.normal_(0, 0.5, generator);
  moe->to(torch::kDouble);
  return moe;
}

Tensor input(int64_t tokens, uint64_t seed = 2) {
  return torch::randn({tokens, kWidth}, at::make_generator<at::CPUGeneratorImpl>(seed)).to(torch::kDouble);
}

// One token's output from the definition, with routing in plain loops.
Tensor written_out(const MixtureOfExperts& moe, const MoeConfig& c, const Tensor& x) {
  auto p = moe.named_parameters();
  const auto swiglu = [&](const std::string& name) {
    const Tensor gate = p[name + ".gate_proj.weight"].mv(x), up = p[name + ".up_proj.weight"].mv(x);
    return p[name + ".down_proj.weight"].mv(gate * torch::sigmoid(gate) * up);
  };
  std::vector<double> score, choice;
  for (int64_t e = 0; e < c.experts; ++e) {
    const double logit = p["router.weight"][e].dot(x).item<double>();
    score.push_back(1 / (1 + std::exp(-logit)));
    choice.push_back(score.back() + p["correction_bias"][e].item<double>());
  }
  const auto best = [](std::vector<int64_t> candidates, const auto& value, int64_t count) {
    std::sort(candidates.begin(), candidates.end(), [&](int64_t a, int64_t b) { return value(a) > value(b); });
    candidates.resize(static_cast<size_t>(count));
    return candidates;
  };
  const int64_t size = c.experts / c.groups;
  const auto group_score = [&](int64_t g) {
    std::vector<double> members(choice.begin() + g * size, choice.begin() + (g + 1) * size);
    std::sort(members.rbegin(), members.rend());
    return members[0] + (size > 1 ? members[1] : 0);
  };
  std::vector<int64_t> groups(static_cast<size_t>(c.groups));
  std::iota(groups.begin(), groups.end(), 0);
  std::vector<int64_t> open;
  for (const int64_t g : best(groups, group_score, c.groups_per_token)) {
    for (int64_t e = g * size; e < (g + 1) * size; ++e) open.push_back(e);
  }
  const auto chosen = best(
      open, [&](int64_t e) { return choice[static_cast<size_t>(e)]; }, c.experts_per_token);
  double sum = 0;
  for (const int64_t e : chosen) sum += score[static_cast<size_t>(e)];
  Tensor y = torch::zeros({kWidth}, torch::kDouble);
  for (const int64_t e : chosen) {
    const double weight = score[static_cast<size_t>(e)] / (c.renormalise ? sum : 1);
    y += c.scaling * weight * swiglu("expert" + std::to_string(e));
  }
  if (c.shared_experts > 0) y += swiglu("shared");
  return y;
}

TEST(Experts, ComputeWhatTheirDefinitionSays) {
  const torch::NoGradGuard no_grad;
  for (const char* renormalise : {"true", "false"}) {
    std::vector<Assignment> assignments = kGrouped;
    assignments.push_back({"renormalise", renormalise, ""});
    const MoeConfig config = config_of(assignments);
    const auto moe = drawn(config);
    const Tensor x = input(50), y = moe->forward(x.view({5, 10, kWidth})).view({50, kWidth});
    for (int64_t t = 0; t < 50; ++t) {
      const Comparison result =
          compare(y[t].clone(), written_out(*moe, config, x[t]), Tolerance{.of_element = 1e-10, .of_rms = 1e-10});
      ASSERT_TRUE(result.pass) << "token " << t << ": " << result.message;
    }
  }
}

// The router of Qwen3-Next: a softmax over all experts, then the best ones; the shared expert has a width and a gate.
TEST(Experts, SoftmaxRouterAndSharedGateAreTheirEquations) {
  const torch::NoGradGuard no_grad;
  for (const bool renormalise : {true, false}) {
    MoeConfig config = config_of({{"experts", "6", ""},
                                  {"experts_per_token", "2", ""},
                                  {"router", "softmax", ""},
                                  {"shared_gate", "true", ""},
                                  {"shared_width", "5", ""},
                                  {"scaling", "1.5", ""}});
    config.renormalise = renormalise;
    const auto moe = drawn(config);
    const auto p = moe->named_parameters();
    EXPECT_EQ(p.find("correction_bias"), nullptr);
    EXPECT_EQ(p["shared.gate_proj.weight"].sizes(), at::IntArrayRef({5, kWidth}));
    const auto swiglu = [&](const std::string& name, const Tensor& x) {
      const Tensor gate = p[name + ".gate_proj.weight"].mv(x);
      return p[name + ".down_proj.weight"].mv(gate * torch::sigmoid(gate) * p[name + ".up_proj.weight"].mv(x));
    };
    const Tensor x = input(20), y = moe->forward(x);
    for (int64_t t = 0; t < 20; ++t) {
      const auto [share, chosen] = p["router.weight"].mv(x[t]).softmax(0).topk(2);
      Tensor expected = torch::sigmoid(p["shared_gate.weight"][0].dot(x[t])) * swiglu("shared", x[t]);
      for (int64_t i = 0; i < 2; ++i) {
        const Tensor weight = renormalise ? share[i] / share.sum() : share[i];
        expected += 1.5 * weight * swiglu("expert" + std::to_string(chosen[i].item<int64_t>()), x[t]);
      }
      const Comparison result = compare(y[t].clone(), expected, Tolerance{.of_element = 1e-10, .of_rms = 1e-10});
      ASSERT_TRUE(result.pass) << "token " << t << ": " << result.message;
    }
    const Tensor before = moe->route(x).weights;
    {
      const torch::AutoGradMode with_gradients(true);
      moe->forward(x);
    }
    moe->after_step(alone);  // nothing to balance
    EXPECT_TRUE(torch::equal(moe->route(x).weights, before));
  }
  EXPECT_THROW(config_of({{"experts", "4", ""},
                          {"experts_per_token", "2", ""},
                          {"router", "softmax", ""},
                          {"biased_weights", "true", ""}}),
               UsageError);
  EXPECT_THROW(config_of({{"experts", "4", ""},
                          {"experts_per_token", "2", ""},
                          {"shared_gate", "true", ""},
                          {"shared_experts", "0", ""}}),
               UsageError);
}

TEST(Experts, AreChosenByTheBiasButNotWeighedByIt) {
  const torch::NoGradGuard no_grad;
  const auto moe =
      drawn(config_of({{"experts", "6", ""}, {"experts_per_token", "2", ""}, {"renormalise", "false", ""}}));
  const Tensor x = input(40);
  const Routing before = moe->route(x);
  moe->named_parameters()["correction_bias"][3] += 100;
  const Routing after = moe->route(x);
  EXPECT_TRUE(torch::equal(after.experts.select(1, 0), torch::full({40}, 3, torch::kLong)));
  // Tokens that already used expert 3 have the same weight for it.
  const Tensor had = before.experts.eq(3);
  ASSERT_GT(had.sum().item<int64_t>(), 0);
  const Tensor then = before.weights.masked_select(had), now = after.weights.select(1, 0).masked_select(had.any(1));
  EXPECT_TRUE(torch::equal(then, now));
}

TEST(Experts, GradientsAreThoseOfFiniteDifferences) {
  const auto moe = drawn(config_of(kGrouped));
  const Tensor x = input(20).requires_grad_(), weights = input(20, 9);
  const auto loss = [&] { return (moe->forward(x) * weights).sum(); };
  loss().backward();
  auto leaves = moe->named_parameters();
  for (const char* name : {"router.weight", "expert0.up_proj.weight", "shared.down_proj.weight", "correction_bias"}) {
    const torch::NoGradGuard no_grad;
    Tensor& leaf = leaves[name];
    const Tensor step =
        1e-6 * torch::randn(leaf.sizes(), at::make_generator<at::CPUGeneratorImpl>(4)).to(torch::kDouble);
    leaf.add_(step);
    const double above = loss().item<double>();
    leaf.sub_(2 * step);
    const double below = loss().item<double>();
    leaf.add_(step);
    const double expected = leaf.grad().defined() ? (leaf.grad() * step).sum().item<double>() : 0.0;
    EXPECT_NEAR((above - below) / 2, expected, 1e-10) << name;
  }
}

TEST(Experts, BiasMovesAgainstTheLoadAfterAStep) {
  const auto moe =
      drawn(config_of({{"experts", "4", ""}, {"experts_per_token", "1", ""}, {"bias_update", "0.25", ""}}));
  Tensor bias = moe->named_parameters()["correction_bias"];
  EXPECT_FALSE(bias.requires_grad());
  const Tensor x = input(64);
  const Tensor load = torch::bincount(moe->route(x).experts.view({-1}), {}, 4);
  const Tensor before = bias.clone();
  moe->forward(x);
  moe->after_step(alone);
  for (int64_t e = 0; e < 4; ++e) {
    const int64_t tokens = load[e].item<int64_t>();
    EXPECT_DOUBLE_EQ((bias[e] - before[e]).item<double>(), tokens < 16 ? 0.25 : tokens > 16 ? -0.25 : 0.0);
  }
  const Tensor once = bias.clone();
  moe->after_step(alone);  // no new tokens
  {
    const torch::NoGradGuard no_grad;  // like an evaluation
    moe->forward(x);
  }
  moe->after_step(alone);
  EXPECT_TRUE(torch::equal(bias, once));
}

TEST(Experts, BalanceInTheEnd) {
  const auto moe =
      drawn(config_of({{"experts", "8", ""}, {"experts_per_token", "2", ""}, {"bias_update", "0.01", ""}}));
  const auto imbalance = [&] {
    const Tensor load = torch::bincount(moe->route(input(512)).experts.view({-1}), {}, 8).to(torch::kDouble);
    return (load.max() / load.mean()).item<double>();
  };
  const double before = imbalance();
  for (int i = 0; i < 100; ++i) {
    moe->forward(input(512));
    moe->after_step(alone);
  }
  EXPECT_GT(before, 1.3);
  EXPECT_LT(imbalance(), 1.1);
}

// Experts without tokens must not add to the cost of a step, neither in products nor in the optimiser.
TEST(Experts, WithoutTokensCostNothing) {
  const auto run = [](const char* experts) {
    const auto moe = drawn(config_of({{"experts", experts, ""}, {"experts_per_token", "2", ""}}));
    {
      // The first four are always selected.
      const torch::NoGradGuard no_grad;
      moe->named_parameters()["correction_bias"].narrow(0, 0, 4).add_(100);
    }
    Tensor y;
    int64_t products = 0;
    {
      const ProductCounter counter;
      y = moe->forward(input(30));
      products = counter.calls();
    }
    y.sum().backward();
    return std::pair(products, moe);
  };
  const auto [few, small] = run("4");
  const auto [many, large] = run("64");
  EXPECT_EQ(few, many);
  const auto parameters = large->named_parameters();
  EXPECT_FALSE(parameters["expert63.up_proj.weight"].grad().defined());
  const Tensor idle = parameters["expert63.up_proj.weight"].clone(),
               used = parameters["expert0.up_proj.weight"].clone();
  AdamW adamw(*large, {});
  adamw.step(0.1);
  EXPECT_TRUE(torch::equal(parameters["expert63.up_proj.weight"], idle));
  EXPECT_FALSE(torch::equal(parameters["expert0.up_proj.weight"], used));
}

}  // namespace
}  // namespace klab
