// SPDX-License-Identifier: Apache-2.0
// Edits of a state against numbers by hand, an explicit solve, and a step of the recurrence.
#include "core/inspect/surgery.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <cmath>
#include <limits>

#include "kernels/recurrence/recurrence.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kBatch = 3, kHeads = 2, kPairs = 5, kKeys = 6, kValues = 4;
constexpr double kRounding = 1e-12;

Tensor numbers(const std::vector<double>& values, at::IntArrayRef shape) {
  return torch::tensor(values, torch::kDouble).view(shape);
}

void expect_close(const Tensor& actual, const Tensor& expected, double allowed = kRounding) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  EXPECT_LE((actual - expected).abs().max().item<double>(), allowed);
}

// Random states and keys, of any length.
struct Drawn {
  Tensor S, keys, value;  // [B, H, K, V], [B, H, N, K], [B, H, V]
};

Drawn drawn() {
  torch::manual_seed(1);
  const auto numbers_of = [](at::IntArrayRef shape) { return torch::randn(shape, torch::kDouble); };
  return {numbers_of({kBatch, kHeads, kKeys, kValues}), numbers_of({kBatch, kHeads, kPairs, kKeys}),
          numbers_of({kBatch, kHeads, kValues})};
}

TEST(StateEdit, ByHand) {
  const Tensor S = numbers({1, 2, 3, 4}, {2, 2}), key = numbers({1, 0}, {2}), other = numbers({0.6, 0.8}, {1, 2});
  expect_close(values_under(S, key.unsqueeze(0)), numbers({1, 2}, {1, 2}));
  expect_close(values_under(S, other), numbers({3, 4.4}, {1, 2}));
  const Tensor overwritten = overwritten_state(S, key, numbers({5, 7}, {2}));
  expect_close(overwritten, numbers({5, 7, 3, 4}, {2, 2}));
  expect_close(values_under(overwritten, other), numbers({5.4, 7.4}, {1, 2}));  // 0.6 of the change by (4, 5)
  const Tensor erased = erased_state(S, key);
  expect_close(erased, numbers({0, 0, 3, 4}, {2, 2}));
  expect_close(values_under(erased, other), numbers({2.4, 3.2}, {1, 2}));
}

TEST(StateEdit, ByHandWithALongKey) {
  const Tensor S = numbers({1, 2, 3, 4}, {2, 2}), key = numbers({0, 2}, {2});
  expect_close(values_under(S, key.unsqueeze(0)), numbers({1.5, 2}, {1, 2}));  // (6, 8) / 4
  const Tensor overwritten = overwritten_state(S, key, numbers({1, 1}, {2}));
  expect_close(overwritten, numbers({1, 2, 2, 2}, {2, 2}));
  expect_close(values_under(overwritten, key.unsqueeze(0)), numbers({1, 1}, {1, 2}));
}

TEST(StateEdit, WritesExactlyWhatIsWanted) {
  const auto [S, keys, value] = drawn();
  const Tensor key = keys.select(2, 1), row = key.unsqueeze(2);
  expect_close(values_under(overwritten_state(S, key, value), row).squeeze(2), value);
  expect_close(values_under(erased_state(S, key), row).squeeze(2), torch::zeros_like(value));
  expect_close(overwritten_state(S, key, values_under(S, row).squeeze(2)), S);
}

TEST(StateEdit, MovesOtherValuesByTheirOverlap) {
  const auto [S, keys, value] = drawn();
  const Tensor key = keys.select(2, 1), step = value - values_under(S, key.unsqueeze(2)).squeeze(2);
  const Tensor shares = keys.matmul(key.unsqueeze(-1)) / keys.square().sum(-1, /*keepdim=*/true);  // [B, H, N, 1]
  const Tensor expected = values_under(S, keys) + shares * step.unsqueeze(2);
  expect_close(values_under(overwritten_state(S, key, value), keys), expected);
}

TEST(StateEdit, LeavesOrthogonalKeysAlone) {
  const auto [S, keys, value] = drawn();
  const Tensor orthogonal = std::get<0>(torch::linalg_qr(keys.transpose(-1, -2))).transpose(-1, -2);  // [B, H, N, K]
  const Tensor key = 3 * orthogonal.select(2, 0), others = orthogonal.narrow(2, 1, kPairs - 1);
  expect_close(values_under(overwritten_state(S, key, value), others), values_under(S, others));
}

// The smallest X with k^T X = |k|^2 (v - S^T k / |k|^2)^T, by the pseudo-inverse.
TEST(StateEdit, IsTheSmallestChangeThatWritesIt) {
  const auto [S, keys, value] = drawn();
  const Tensor row = keys.narrow(2, 1, 1);  // [B, H, 1, K]
  const Tensor wanted = row.square().sum(-1, true) * value.unsqueeze(2) - row.matmul(S);
  expect_close(overwritten_state(S, row.squeeze(2), value) - S, torch::linalg_pinv(row).matmul(wanted));
}

kernels::RecurrenceInputs one_token(const Tensor& key, const Tensor& value) {
  kernels::RecurrenceInputs in;
  in.k = in.q = key.unsqueeze(1);  // [B, 1, H, K]
  in.v = value.unsqueeze(1);
  return in;
}

TEST(StateEdit, IsAStepOfTheDeltaRule) {
  const auto [S, keys, value] = drawn();
  const Tensor key = keys.select(2, 0) / keys.select(2, 0).norm(2, -1, /*keepdim=*/true);
  kernels::RecurrenceInputs in = one_token(key, value);
  in.beta = torch::ones({kBatch, 1, kHeads}, torch::kDouble);
  in.initial_state = S;
  expect_close(overwritten_state(S, key, value), kernels::recurrence(in).final_state);
}

TEST(StateEdit, ReadsBackOneWriteWithAKeyOfAnyLength) {
  const auto [S, keys, value] = drawn();
  const Tensor key = keys.select(2, 0), state = kernels::recurrence(one_token(key, value)).final_state;
  expect_close(values_under(state, key.unsqueeze(2)).squeeze(2), value);
}

TEST(StateEdit, AKeyOfZerosHoldsNothing) {
  const auto [S, keys, value] = drawn();
  const Tensor key = torch::zeros_like(keys.select(2, 0));
  EXPECT_EQ(values_under(S, key.unsqueeze(2)).abs().max().item<double>(), 0);
  EXPECT_TRUE(torch::equal(overwritten_state(S, key, value), S));
}

TEST(RelativeChange, IsOfAllRowsTogether) {
  const Tensor before = numbers({3, 0, 0, 4}, {2, 2}), after = numbers({3, 0, 1, 4}, {2, 2});
  EXPECT_NEAR(relative_change(before, after).item<double>(), 0.2, kRounding);
  EXPECT_EQ(relative_change(torch::zeros({2, 2}), torch::zeros({2, 2})).item<double>(), 0);
  EXPECT_EQ(relative_change(torch::zeros({2, 2}), torch::ones({2, 2})).item<double>(),
            std::numeric_limits<double>::infinity());
  EXPECT_EQ(relative_change(before.expand({7, 2, 2}), after.expand({7, 2, 2})).sizes(), std::vector<int64_t>{7});
}

TEST(KeyOverlap, IsTheRootMeanSquareOfCosines) {
  const Tensor key = numbers({2, 0}, {2}), others = numbers({3, 0, 0, 1, 5, 5}, {3, 2});  // cosines 1, 0, 0.5^0.5
  EXPECT_NEAR(key_overlap(key, others).item<double>(), std::sqrt(0.5), kRounding);
  torch::manual_seed(1);
  const Tensor random = torch::randn({4001, 16}, torch::kDouble);
  EXPECT_NEAR(key_overlap(random[0], random.narrow(0, 1, 4000)).item<double>(), 0.25, 0.01);
}

}  // namespace
}  // namespace klab
