// SPDX-License-Identifier: Apache-2.0
#include "experiments/capacity/theory.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "experiments/capacity/recall.h"

namespace klab {
namespace {

TEST(CapacityTheory, CoordinateOfAUnitVector) {
  const UnitVectorCoordinate three(3);  // uniform (Archimedes)
  EXPECT_NEAR(three.below(0.5), 0.75, 1e-9);
  const UnitVectorCoordinate many(200);  // close to normal with variance 1 / 200
  EXPECT_NEAR(many.below(1 / std::sqrt(200.0)), 0.8413, 2e-3);
  EXPECT_EQ(many.below(1), 1);
}

TEST(CapacityTheory, AdditiveNoiseGrowsWithThePairs) {
  for (const ReadMoments& read : read_moments(1, 0, 33, 16)) {
    EXPECT_DOUBLE_EQ(read.signal, 1);
    EXPECT_NEAR(read.variance, 0, 1e-12);
    EXPECT_NEAR(read.noise, 2, 1e-12);
  }
}

// The moments are those of states: sum of w_j^2 is the mean squared read over values with unit variance.
TEST(CapacityTheory, MomentsAreThoseOfTheRecurrence) {
  constexpr int64_t kTrials = 20000, kPairs = 6, kKeyDim = 5;
  const UpdateRule& gdn = update_rules()[4];
  ConstantGates gates;
  gates.erase = gates.erase_last = 0.75;
  gates.half_life = gates.half_life_last = 8;
  Pairs pairs = draw_pairs(Scenario::plain, kTrials, kPairs, kKeyDim, 11);
  // Values that are the unit vectors show the weights themselves.
  kernels::RecurrenceInputs in =
      write_inputs(gdn, {gates}, pairs.keys, torch::eye(kPairs).expand({kTrials, kPairs, kPairs}));
  const torch::Tensor S = kernels::recurrence(in).final_state.squeeze(1) / gates.erase;  // [B, K, N]
  const torch::Tensor w = pairs.keys.matmul(S).to(torch::kDouble);                       // [B, N, N]
  const torch::Tensor signal = w.diagonal(0, 1, 2), all = w.square().sum(-1);            // [B, N]
  const std::vector<ReadMoments> reads = read_moments(std::exp2(-1.0 / 8), 0.75, kPairs, kKeyDim);
  for (int64_t i = 0; i < kPairs; ++i) {
    const ReadMoments& read = reads[static_cast<size_t>(i)];
    const torch::Tensor one = signal.select(1, i);
    EXPECT_NEAR(one.mean().item<double>(), read.signal, 0.01) << i;
    EXPECT_NEAR(one.var().item<double>(), read.variance, 0.01) << i;
    EXPECT_NEAR((all.select(1, i) - one.square()).mean().item<double>(), read.noise, 0.02) << i;
  }
}

TEST(CapacityTheory, AgreesWithMeasurement) {
  for (const int64_t pairs : {8, 16, 32}) {
    const Pairs drawn = draw_pairs(Scenario::plain, 2000 / pairs, pairs, 16, 12);
    const double measured = recall(written_states(update_rules().front(), {{}}, drawn), drawn).front().share;
    EXPECT_NEAR(expected_recovered(1, 0, pairs, 16, kVocabulary), measured, 0.06) << pairs;
    const double best = recall(least_squares_states(drawn), drawn).front().share;
    EXPECT_NEAR(expected_recovered_by_least_squares(pairs, 16, kVocabulary), best, 0.06) << pairs;
  }
}

}  // namespace
}  // namespace klab
