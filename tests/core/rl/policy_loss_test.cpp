// SPDX-License-Identifier: Apache-2.0
#include "core/rl/policy_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "core/rl/importance.h"

namespace klab {
namespace {

using torch::Tensor;

const std::vector<int64_t> kLengths = {3, 1, 4, 2};

// Four answers of differing lengths, in float64.
PolicyTokens drawn_tokens() {
  PolicyTokens tokens;
  const Tensor lengths = torch::tensor(kLengths);
  const int64_t all = 10;
  tokens.answer = torch::arange(4).repeat_interleave(lengths);
  tokens.before = -torch::rand({all}, torch::kDouble) - 0.1;
  tokens.log_probs =
      tokens.before + torch::tensor({0.5, -0.4, 0.1, -0.6, 0.3, 0.05, -0.1, 0.25, -0.5, 0.15}, torch::kDouble);
  tokens.weights = torch::ones({all}, torch::kDouble);
  tokens.advantage = torch::tensor({0.75, -0.25, 0.4, -0.9}, torch::kDouble);
  return tokens;
}

using Loss = std::function<PolicyLoss(const PolicyTokens&)>;

Tensor gradient(PolicyTokens tokens, const Loss& loss) {
  tokens.log_probs = tokens.log_probs.clone().requires_grad_();
  loss(tokens).mean.backward();
  return tokens.log_probs.grad();
}

void expect_gradient_of_differences(const PolicyTokens& tokens, const Loss& loss) {
  constexpr double kStep = 1e-6;
  const Tensor found = gradient(tokens, loss);
  for (int64_t i = 0; i < tokens.log_probs.size(0); ++i) {
    const auto moved = [&](double by) {
      PolicyTokens changed = tokens;
      changed.log_probs = tokens.log_probs.clone();
      changed.log_probs[i] += by;
      return loss(changed).mean.item<double>();
    };
    const double difference = (moved(kStep) - moved(-kStep)) / (2 * kStep);
    EXPECT_NEAR(found[i].item<double>(), difference, 1e-7 * (1 + std::abs(difference))) << "token " << i;
  }
}

// The sum over an answer's tokens of log pi - log pi_before.
double log_ratio(const PolicyTokens& tokens, int64_t answer) {
  return ((tokens.log_probs - tokens.before) * tokens.answer.eq(answer)).sum().item<double>();
}

TEST(MirrorDescent, IsTheFormulaOfKimiK15) {
  const PolicyTokens tokens = drawn_tokens();
  for (const double tau : {0.05, 0.7, 3.0}) {
    double expected = 0;
    for (int64_t j = 0; j < 4; ++j) {
      const double a = tokens.advantage[j].item<double>(), l = log_ratio(tokens, j);
      expected += 0.5 * tau * std::pow(a / tau - l, 2) / 4;
    }
    EXPECT_NEAR(mirror_descent_loss(tokens, tau).mean.item<double>(), expected, 1e-10 * expected);
    expect_gradient_of_differences(tokens, [&](const PolicyTokens& some) { return mirror_descent_loss(some, tau); });
  }
}

// -(A grad log pi - tau/2 grad l^2), and a token's part times its weight.
TEST(MirrorDescent, WeighsTheGradientOfEveryToken) {
  PolicyTokens tokens = drawn_tokens();
  const double value = mirror_descent_loss(tokens, 0.5).mean.item<double>();
  tokens.weights = torch::rand({10}, torch::kDouble) * 2;
  EXPECT_NEAR(mirror_descent_loss(tokens, 0.5).mean.item<double>(), value, 1e-12) << "the value has no weights";
  const Tensor found = gradient(tokens, [](const PolicyTokens& some) { return mirror_descent_loss(some, 0.5); });
  for (int64_t i = 0; i < 10; ++i) {
    const int64_t j = tokens.answer[i].item<int64_t>();
    const double a = tokens.advantage[j].item<double>(), l = log_ratio(tokens, j);
    EXPECT_NEAR(found[i].item<double>(), -tokens.weights[i].item<double>() * (a - 0.5 * l) / 4, 1e-12) << i;
  }
}

TEST(ClippedLoss, IsTheFormulaOfGrpo) {
  PolicyTokens tokens = drawn_tokens();
  tokens.weights = torch::rand({10}, torch::kDouble) * 2;
  double expected = 0, clipped = 0;
  for (int64_t i = 0; i < 10; ++i) {
    const int64_t j = tokens.answer[i].item<int64_t>();
    const double d = (tokens.log_probs[i] - tokens.before[i]).item<double>(), r = std::exp(d);
    const double a = tokens.advantage[j].item<double>(), w = tokens.weights[i].item<double>();
    const double limited = std::min(std::max(r, 0.8), 1.2) * a;
    clipped += limited < r * a;
    const double token = -w * std::min(r * a, limited) + 0.3 * (std::exp(-d) - 1 + d);
    expected += token / static_cast<double>(kLengths[static_cast<size_t>(j)]) / 4;
  }
  const PolicyLoss found = clipped_loss(tokens, 0.2, 0.3);
  EXPECT_NEAR(found.mean.item<double>(), expected, 1e-12);
  EXPECT_NEAR(found.clipped_share, clipped / 10, 1e-12);
  EXPECT_GT(clipped, 0);
  expect_gradient_of_differences(tokens, [](const PolicyTokens& some) { return clipped_loss(some, 0.2, 0.3); });
}

TEST(ClippedLoss, HasNoGradientWhereTheRatioHasLeftTheRangeForTheBetter) {
  PolicyTokens tokens = drawn_tokens();
  tokens.log_probs = tokens.before.clone();
  tokens.log_probs[0] += 1;  // answer 0 has a positive advantage
  tokens.log_probs[3] -= 1;  // answer 1 a negative one
  tokens.log_probs[1] -= 1;  // for the worse: keeps its gradient
  const Tensor found = gradient(tokens, [](const PolicyTokens& some) { return clipped_loss(some, 0.2, 0); });
  EXPECT_EQ(found[0].item<double>(), 0);
  EXPECT_EQ(found[3].item<double>(), 0);
  EXPECT_LT(found[1].item<double>(), 0);
}

RlConfig config_of(const std::string& loss, const std::string& baseline, bool scale) {
  RlConfig config;
  config.loss = loss;
  config.baseline = baseline;
  config.scale_by_deviation = scale;
  return config;
}

TEST(Advantages, SubtractTheBaselineOfTheirGroup) {
  const Tensor rewards = torch::tensor({{1.0f, 0.0f, 0.0f, 0.5f}, {0.0f, 0.0f, 1.0f, 1.0f}});
  const Tensor mean = advantages(rewards, config_of("mirror_descent", "mean", true));
  const Tensor others = advantages(rewards, config_of("mirror_descent", "leave_one_out", true));
  const Tensor scaled = advantages(rewards, config_of("grpo", "mean", true));
  EXPECT_TRUE(torch::equal(mean, advantages(rewards, config_of("grpo", "mean", false))));
  for (int64_t g = 0; g < 2; ++g) {
    const double sum = rewards[g].sum().item<double>();
    const double deviation = rewards[g].to(torch::kDouble).std().item<double>();
    for (int64_t j = 0; j < 4; ++j) {
      const double r = rewards[g][j].item<double>();
      EXPECT_NEAR(mean[g][j].item<double>(), r - sum / 4, 1e-6);
      EXPECT_NEAR(others[g][j].item<double>(), r - (sum - r) / 3, 1e-6);
      EXPECT_NEAR(scaled[g][j].item<double>(), (r - sum / 4) / (deviation + 1e-4), 1e-5);
    }
  }
}

TEST(LengthRewards, ArePositiveOnlyForRightAnswersShorterThanTheMiddle) {
  EXPECT_EQ(length_rewards({10, 20, 15, 30}, {true, true, false, false}), (std::vector<double>{0.5, 0, 0, -0.5}));
  EXPECT_EQ(length_rewards({10, 30}, {false, true}), (std::vector<double>{0, -0.5}));
  EXPECT_EQ(length_rewards({7, 7, 7}, {true, false, true}), (std::vector<double>{0, 0, 0}));
}

// Against the divergence itself, over a distribution.
TEST(Divergence, EstimatesTheDivergenceOfTheNewPolicy) {
  const Tensor before = torch::log_softmax(torch::tensor({0.5, -1.0, 1.5, 0.0}, torch::kDouble), 0);
  const Tensor now = torch::log_softmax(torch::tensor({0.7, -0.5, 1.2, 0.1}, torch::kDouble), 0);
  const double exact = (before.exp() * (before - now)).sum().item<double>();
  const Tensor drawn = torch::multinomial(before.exp(), 200'000, /*replacement=*/true);
  const Tensor of_before = before.index_select(0, drawn), of_now = now.index_select(0, drawn);
  const Tensor d = of_now - of_before, terms = d.exp() - 1 - d;
  EXPECT_NEAR(divergence(of_before, of_now), exact, 5 * terms.std().item<double>() / std::sqrt(200'000.0));
  EXPECT_EQ(divergence(of_before, of_before), 0);
}

TEST(Importance, IsExactlyOneWithoutMismatch) {
  const Tensor log_probs = -torch::rand({100}) * 5;
  const Importance found = truncated_importance(log_probs, log_probs, 2);
  EXPECT_TRUE(torch::equal(found.weights, torch::ones({100})));
  EXPECT_EQ(found.mean, 1);
  EXPECT_EQ(found.largest_ratio, 1);
  EXPECT_EQ(found.clipped_share, 0);
  EXPECT_EQ(found.effective_sample_size, 1);
}

TEST(Importance, IsTruncatedAtTheLimit) {
  const Tensor rollout = torch::tensor({-1.0f, -1.0f, -1.0f, -50.0f});
  const Tensor train = torch::tensor({-1.0f + std::log(1.5f), -1.0f + std::log(4.0f), -1.0f + std::log(0.5f), 0.0f});
  const Importance found = truncated_importance(train, rollout, 2);
  EXPECT_TRUE(torch::allclose(found.weights, torch::tensor({1.5f, 2.0f, 0.5f, 2.0f})));
  EXPECT_NEAR(found.mean, 1.5, 1e-6);
  EXPECT_NEAR(found.largest_ratio, std::exp(20.0), 1e-4 * std::exp(20.0)) << "a difference of logarithms is at most 20";
  EXPECT_NEAR(found.clipped_share, 0.5, 1e-9);
  EXPECT_NEAR(found.effective_sample_size, 36 / (4 * (2.25 + 4 + 0.25 + 4)), 1e-6);

  const Importance off = truncated_importance(train, rollout, 0);
  EXPECT_TRUE(torch::equal(off.weights, torch::ones({4})));
  EXPECT_GT(off.largest_ratio, 1e6);
}

}  // namespace
}  // namespace klab
