// SPDX-License-Identifier: Apache-2.0
#include "experiments/bench/training.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

namespace klab {
namespace {

TEST(MeasureTraining, SaysWhereTheTimeGoes) {
  TrainingSpeed speed = measure_training("gdn", 64, 1024, 0.3);
  EXPECT_GT(speed.milliseconds, 0);
  EXPECT_NEAR(speed.tokens_per_second, 1024 / (speed.milliseconds / 1e3), 1);
  // Two layers of width 64 have some 10^5 weights, and every token uses them six times.
  EXPECT_GT(speed.flops, 1024 * 6 * 5e4);
  EXPECT_LT(speed.flops, 1024 * 6 * 5e5);
  EXPECT_GT(speed.product_flops, 1e9);
  EXPECT_NEAR(speed.share_of_product(), speed.flops / (speed.milliseconds / 1e3) / speed.product_flops, 1e-12);
  for (const char* category : {"products", "recurrence", "other klab operators", "elementwise", "optimiser"}) {
    EXPECT_GT(speed.shares[category], 0) << category;
  }
  double sum = 0;
  for (const auto& [category, share] : speed.shares) sum += share;
  EXPECT_NEAR(sum, 1, 1e-9);
  EXPECT_GT(speed.shares["products"] + speed.shares["recurrence"], 0.2) << "most of the work";
  EXPECT_LT(speed.shares["outside of operators"], 0.5);
}

}  // namespace
}  // namespace klab
