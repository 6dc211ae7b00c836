// SPDX-License-Identifier: Apache-2.0
// Half-lives against decays that are known.
#include "core/inspect/decay.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <cmath>
#include <limits>

#include "core/base/error.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kHeads = 2, kKeys = 3, kTokens = 8;
constexpr double kInfinite = std::numeric_limits<double>::infinity();

kernels::RecurrenceInputs with_decay(const Tensor& g) {
  kernels::RecurrenceInputs in;
  in.q = in.k = torch::ones({1, kTokens, kHeads, kKeys});
  in.v = torch::ones({1, kTokens, kHeads, 4});
  in.g = g;
  return in;
}

Decays decays_of(const kernels::RecurrenceInputs& in) {
  DecayMeter meter;
  meter.add(in);
  return meter.decays();
}

double at(const Tensor& x, int64_t head, int64_t channel) { return x[head][channel].item<double>(); }

TEST(Decay, AFixedDecayHasItsHalfLife) {
  Tensor g = torch::zeros({1, kTokens, kHeads, kKeys});
  g.select(2, 0).fill_(std::log(0.5));
  g.select(2, 1).select(2, 2).fill_(std::log(0.25));
  const Decays found = decays_of(with_decay(g));
  EXPECT_NEAR(at(found.half_life, 0, 0), 1, 1e-6);
  EXPECT_NEAR(at(found.half_life, 1, 2), 0.5, 1e-6);
  EXPECT_EQ(at(found.half_life, 1, 0), kInfinite);
}

TEST(Decay, OneNumberPerHeadIsOneChannel) {
  const Decays found = decays_of(with_decay(torch::full({1, kTokens, kHeads}, -0.1)));
  EXPECT_EQ(found.half_life.sizes(), (std::vector<int64_t>{kHeads, 1}));
  EXPECT_NEAR(at(found.half_life, 1, 0), std::log(2) / 0.1, 1e-5);
}

TEST(Decay, WithoutDecayNothingFades) {
  const Decays found = decays_of(with_decay({}));
  EXPECT_EQ(found.half_life.sizes(), (std::vector<int64_t>{kHeads, 1}));
  EXPECT_EQ(at(found.half_life, 0, 0), kInfinite);
}

TEST(Decay, HardResetsAreCountedApart) {
  Tensor g = torch::full({1, kTokens, kHeads, kKeys}, -0.5);
  g.select(2, 0).select(2, 0).narrow(1, 0, 2).fill_(-kInfinite);
  g.select(2, 0).select(2, 1).fill_(-kInfinite);
  g.select(2, 0).select(2, 2).narrow(1, 3, 1).fill_(-1000);  // exp of it is 0, too
  const Decays found = decays_of(with_decay(g));
  EXPECT_NEAR(at(found.half_life, 0, 0), std::log(2) / 0.5, 1e-6);
  EXPECT_EQ(at(found.resets, 0, 0), 2.0 / kTokens);
  EXPECT_EQ(at(found.half_life, 0, 1), 0);
  EXPECT_EQ(at(found.resets, 0, 1), 1);
  EXPECT_NEAR(at(found.half_life, 0, 2), std::log(2) / 0.5, 1e-6);
  EXPECT_EQ(at(found.resets, 1, 0), 0);
}

TEST(Decay, AveragesOverAllTokensThatItIsShown) {
  DecayMeter meter;
  meter.add(with_decay(torch::full({1, kTokens, kHeads}, -0.2)));
  meter.add(with_decay(torch::full({1, kTokens, kHeads}, -0.4)));
  EXPECT_NEAR(at(meter.decays().mean_g, 0, 0), -0.3, 1e-7);
  EXPECT_THROW(meter.add(with_decay(torch::zeros({1, kTokens, kHeads, kKeys}))), UsageError);
}

TEST(Decay, RawGatesAreActivatedFirst) {
  kernels::RecurrenceInputs in = with_decay(torch::full({1, kTokens, kHeads}, 0.7));
  in.gate = kernels::RecurrenceGate{.A_log = torch::tensor({0.0F, 1.0F}), .dt_bias = {}};
  const Decays found = decays_of(in);
  const double softplus = std::log1p(std::exp(0.7));
  EXPECT_NEAR(at(found.mean_g, 0, 0), -softplus, 1e-6);
  EXPECT_NEAR(at(found.mean_g, 1, 0), -std::exp(1) * softplus, 1e-6);
}

TEST(Decay, NothingShownIsAnError) { EXPECT_THROW(DecayMeter().decays(), Error); }

}  // namespace
}  // namespace klab
