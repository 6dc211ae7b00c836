// SPDX-License-Identifier: Apache-2.0
// Exact facts about what update rules hold.
#include "experiments/capacity/recall.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "experiments/capacity/gate_search.h"

namespace klab {
namespace {

constexpr int64_t kKeyDim = 8;

const UpdateRule& rule(const std::string& name) {
  for (const UpdateRule& one : update_rules()) {
    if (one.name == name) return one;
  }
  throw std::out_of_range(name);
}

ConstantGates erasing(double beta) {
  ConstantGates gates;
  gates.erase = gates.erase_last = beta;
  return gates;
}

double share(const std::string& name, const ConstantGates& gates, const Pairs& pairs) {
  return recall(written_states(rule(name), {gates}, pairs), pairs).front().share;
}

// The keys of the pairs, replaced by the unit vectors.
Pairs orthonormal(Pairs pairs) {
  const torch::Tensor unit = torch::eye(kKeyDim).expand({pairs.keys.size(0), -1, -1});
  const torch::Tensor similar = pairs.asked_keys().matmul(pairs.keys.mT());  // [B, N, T], 1 where a step writes a pair
  const torch::Tensor pair = similar.argmax(1);                              // [B, T]
  pairs.keys = unit.gather(1, pair.unsqueeze(-1).expand({-1, -1, kKeyDim}));
  return pairs;
}

TEST(CapacityRecall, LeastSquaresRecoversAsManyPairsAsThereAreChannels) {
  for (const int64_t pairs : {1, 5, 8}) {
    const Pairs drawn = draw_pairs(Scenario::plain, 50, pairs, kKeyDim, 1);
    EXPECT_EQ(recall(least_squares_states(drawn), drawn).front().share, 1) << pairs;
  }
  const Pairs many = draw_pairs(Scenario::plain, 50, 4 * kKeyDim, kKeyDim, 1);
  EXPECT_LT(recall(least_squares_states(many), many).front().share, 0.6);
}

TEST(CapacityRecall, EveryRuleRecoversOrthonormalKeys) {
  const Pairs pairs = orthonormal(draw_pairs(Scenario::plain, 50, kKeyDim, kKeyDim, 2));
  EXPECT_EQ(share("delta", erasing(1), pairs), 1);
  EXPECT_EQ(share("additive", {}, pairs), 1);
  const Pairs random = draw_pairs(Scenario::plain, 50, kKeyDim, kKeyDim, 2);
  EXPECT_LT(share("additive", {}, random), 0.9);
}

TEST(CapacityRecall, OnlyTheDeltaRuleOverwritesOrthonormalKeys) {
  const Pairs pairs = orthonormal(draw_pairs(Scenario::overwritten, 100, kKeyDim, kKeyDim, 3));
  EXPECT_EQ(share("delta", erasing(1), pairs), 1);
  // The additive rule holds the sum of both values under an overwritten key, and the other half as before.
  EXPECT_GE(share("additive", {}, pairs), 0.5);
  EXPECT_LT(share("additive", {}, pairs), 0.8);
}

TEST(CapacityRecall, TheKernelsStatesAreTheRecurrences) {
  ConstantGates gates = erasing(0.75);
  gates.half_life = 20;
  gates.half_life_last = 3;
  gates.erase_last = 0.5;
  Pairs pairs = draw_pairs(Scenario::distractors, 3, 6, 16, 4), wide = pairs;
  wide.keys = pairs.keys.to(torch::kDouble);
  wide.vocabulary = pairs.vocabulary.to(torch::kDouble);
  for (const UpdateRule& one : update_rules()) {
    const torch::Tensor fast = written_states(one, {gates, erasing(1)}, pairs);
    const torch::Tensor exact = written_states(one, {gates, erasing(1)}, wide, kernels::Implementation::reference);
    EXPECT_EQ(exact.sizes(), at::IntArrayRef({3, 2, 16, 16}));
    EXPECT_LT((fast - exact).norm().item<double>(), 1e-5 * exact.norm().item<double>()) << one.name;
  }
}

// The formula of UpdateRule, step by step.
TEST(CapacityRecall, RulesAreTheirFormula) {
  ConstantGates gates = erasing(0.75);
  gates.half_life = 20;
  gates.half_life_last = 3;
  gates.erase_last = 0.5;
  Pairs pairs = draw_pairs(Scenario::plain, 1, 12, 8, 5);
  pairs.keys = pairs.keys.to(torch::kDouble);
  pairs.vocabulary = pairs.vocabulary.to(torch::kDouble);
  const torch::Tensor D = torch::full({8, 1}, std::exp2(-1.0 / 20), torch::kDouble);
  const torch::Tensor e = torch::full({8}, 0.75, torch::kDouble);
  D.narrow(0, 6, 2).fill_(std::exp2(-1.0 / 3));
  e.narrow(0, 6, 2).fill_(0.5);
  torch::Tensor S = torch::zeros({8, 8}, torch::kDouble);
  for (int64_t t = 0; t < 12; ++t) {
    const torch::Tensor k = pairs.keys[0][t], v = pairs.values()[0][t];
    S = D * S;
    S = S - torch::outer(k, (e * k).matmul(S)) + torch::outer(k, v);
  }
  const torch::Tensor actual = written_states(rule("delta + decay and erase per channel"), {gates}, pairs,
                                              kernels::Implementation::reference)[0][0];
  EXPECT_LT((actual - S).abs().max().item<double>(), 1e-12);
}

TEST(CapacityRecall, GeneralRulesContainTheirSpecialCases) {
  const Pairs pairs = draw_pairs(Scenario::overwritten, 4, 6, 16, 6);
  const torch::Tensor delta = written_states(rule("delta"), {erasing(0.5)}, pairs);
  for (const char* name : {"delta + decay per head", "delta + decay per channel"}) {
    EXPECT_TRUE(torch::allclose(written_states(rule(name), {erasing(0.5)}, pairs), delta, 1e-4, 1e-5)) << name;
  }
  // The last rule leaves out the strength of the write.
  const torch::Tensor scaled = 0.5 * written_states(update_rules().back(), {erasing(0.5)}, pairs);
  EXPECT_TRUE(torch::allclose(scaled, delta, 1e-4, 1e-5));
}

TEST(CapacityGateSearch, FindsGatesThatRecoverMoreThanTheStart) {
  const Pairs pairs = draw_pairs(Scenario::distractors, 20, 8, 16, 7);
  const UpdateRule& head = rule("additive + decay per head");
  const ConstantGates found = best_gates(head, {}, pairs);
  EXPECT_TRUE(std::isfinite(found.half_life));
  EXPECT_EQ(found.half_life, found.half_life_last);
  EXPECT_GT(share(head.name, found, pairs), share(head.name, {}, pairs) + 0.05);
}

TEST(CapacityGateSearch, PerChannelDecayForgetsTheNoisyChannelsFaster) {
  const Pairs pairs = draw_pairs(Scenario::distractors, 30, 8, 16, 8);
  const ConstantGates found = best_gates(rule("delta + decay per channel"), erasing(1), pairs);
  EXPECT_LT(found.half_life_last, found.half_life);
}

}  // namespace
}  // namespace klab
