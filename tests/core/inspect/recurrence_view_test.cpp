// SPDX-License-Identifier: Apache-2.0
// Implicit attention against closed formulas, states against the kernel's own all_states, ranks of known matrices.
#include "core/inspect/recurrence_view.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <cmath>

#include "core/base/error.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kHeads = 2, kValueHeads = 4, kKeys = 6, kValues = 5;

kernels::RecurrenceInputs inputs(int64_t T, torch::ScalarType dtype = torch::kDouble) {
  torch::manual_seed(1);
  const auto drawn = [&](at::IntArrayRef shape) { return torch::randn(shape, torch::kDouble).to(dtype); };
  kernels::RecurrenceInputs in;
  in.q = drawn({2, T, kHeads, kKeys});
  const Tensor k = drawn({2, T, kHeads, kKeys});
  in.k = k / k.norm(2, -1, true).clamp_min(1e-12);
  in.v = drawn({2, T, kValueHeads, kValues});
  return in;
}

// q_t . k_s, scaled, for value heads: [B, HV, T, T].
Tensor products(const kernels::RecurrenceInputs& in) {
  const auto heads = [](const Tensor& x) { return x.repeat_interleave(kValueHeads / kHeads, 2).transpose(1, 2); };
  return heads(in.q).matmul(heads(in.k).transpose(2, 3)) / std::sqrt(static_cast<double>(kKeys));
}

void expect_near(const Tensor& actual, const Tensor& expected, double allowed) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  EXPECT_LE((actual.to(torch::kDouble) - expected.to(torch::kDouble)).abs().max().item<double>(), allowed);
}

TEST(ImplicitAttention, OfAnAccumulatingStateIsQTimesK) {
  const auto in = inputs(9);
  expect_near(implicit_attention(in), products(in).tril(), 1e-12);
}

TEST(ImplicitAttention, FadesWithTheDecay) {
  auto in = inputs(9);
  in.g = -torch::rand({2, 9, kValueHeads}, torch::kDouble);
  const Tensor sums = in.g.transpose(1, 2).cumsum(-1);  // [B, HV, T]
  const Tensor faded = (sums.unsqueeze(-1) - sums.unsqueeze(-2)).tril().exp();
  expect_near(implicit_attention(in), (products(in) * faded).tril(), 1e-12);
}

TEST(ImplicitAttention, ForgetsWhatWasBeforeAHardReset) {
  auto in = inputs(9, torch::kFloat);
  in.g = torch::zeros({2, 9, kValueHeads, kKeys});
  in.g.select(1, 4).fill_(-std::numeric_limits<float>::infinity());
  const Tensor A = implicit_attention(in);
  EXPECT_EQ(A.narrow(2, 4, 5).narrow(3, 0, 4).abs().max().item<double>(), 0);
  expect_near(A.narrow(2, 0, 4), products(in).tril().narrow(2, 0, 4), 1e-5);
}

TEST(ImplicitAttention, OfTheDeltaRuleErases) {
  auto in = inputs(2);
  in.beta = torch::full({2, 2, kValueHeads}, 0.75, torch::kDouble);
  const auto heads = [](const Tensor& x) { return x.repeat_interleave(kValueHeads / kHeads, 2); };
  const Tensor k = heads(in.k), overlap = (k.select(1, 0) * k.select(1, 1)).sum(-1);  // [B, HV]
  const Tensor plain = products(in) * 0.75;
  const Tensor A = implicit_attention(in);
  // S_2 = (I - 0.75 k_2 k_2^T) 0.75 k_1 v_1^T + 0.75 k_2 v_2^T
  expect_near(A.select(2, 1).select(2, 0),
              plain.select(2, 1).select(2, 0) - 0.75 * overlap * plain.select(2, 1).select(2, 1), 1e-12);
}

TEST(ImplicitAttention, GoesOnOverBlocksAndLooksAtNoState) {
  auto in = inputs(600, torch::kFloat);
  in.g = torch::full({2, 600, kValueHeads}, -0.01F);
  in.beta = torch::full({2, 600, kValueHeads}, 0.5F);
  const Tensor A = implicit_attention(in);
  const Tensor o = kernels::recurrence(in).o;
  in.initial_state = torch::ones({2, kValueHeads, kKeys, kValues});
  expect_near(A.matmul(in.v.transpose(1, 2)).transpose(1, 2), o, 1e-4);
  EXPECT_TRUE(torch::equal(implicit_attention(in), A));
}

TEST(ImplicitAttention, RefusesPackedSequences) {
  auto in = inputs(6);
  in.cu_seqlens = torch::tensor({0, 2, 6});
  EXPECT_THROW(implicit_attention(in), UsageError);
}

TEST(States, AreThoseThatTheKernelGoesThrough) {
  auto in = inputs(12);
  in.g = -torch::rand({2, 12, kValueHeads, kKeys}, torch::kDouble);
  in.beta = torch::rand({2, 12, kValueHeads}, torch::kDouble);
  auto all = in;
  all.output_all_states = true;
  const Tensor all_states = kernels::recurrence(all).all_states;  // [B, T, HV, K, V]
  const Tensor states = states_after(in, {1, 5, 12});
  ASSERT_EQ(states.size(0), 3);
  const std::vector<int64_t> last = {0, 4, 11};
  for (size_t i = 0; i < last.size(); ++i) {
    expect_near(states[static_cast<int64_t>(i)], all_states.select(1, last[i]), 1e-12);
  }
}

TEST(States, RefuseNumbersThatDoNotRise) {
  const auto in = inputs(12);
  EXPECT_THROW(states_after(in, {3, 3}), UsageError);
  EXPECT_THROW(states_after(in, {0}), UsageError);
  EXPECT_THROW(states_after(in, {13}), UsageError);
  EXPECT_THROW(states_after(in, {}), UsageError);
}

TEST(EffectiveRank, OfKnownMatrices) {
  const Tensor column = torch::rand({7, 1}), row = torch::rand({1, 5});
  EXPECT_NEAR(effective_rank(column.matmul(row)).item<double>(), 1, 1e-4);
  EXPECT_NEAR(effective_rank(3 * torch::eye(7, 5)).item<double>(), 5, 1e-9);
  EXPECT_EQ(effective_rank(torch::zeros({7, 5})).item<double>(), 0);
  const double p = 0.75, entropy = -p * std::log(p) - (1 - p) * std::log(1 - p);
  EXPECT_NEAR(effective_rank(torch::diag(torch::tensor({3.0, 1.0}))).item<double>(), std::exp(entropy), 1e-9);
  EXPECT_EQ(effective_rank(torch::rand({2, 3, 4, 4})).sizes(), (std::vector<int64_t>{2, 3}));
}

}  // namespace
}  // namespace klab
