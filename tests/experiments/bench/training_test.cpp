// SPDX-License-Identifier: Apache-2.0
#include "experiments/bench/training.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/model/accounting.h"
#include "experiments/bench/operator_times.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

TrainingWorkload recall() {
  TrainingWorkload workload;
  workload.pattern = {"gdn"};
  workload.tokens = 1024;
  return workload;
}

// Small, but with the two mixers of the hybrid.
TrainingWorkload language() {
  TrainingWorkload workload;
  workload.task = "language";
  workload.pattern = {"kda*3", "mla"};
  workload.layers = 4;
  workload.width = 64;
  workload.length = 128;
  workload.tokens = 512;
  return workload;
}

double sum(const std::map<std::string, double>& shares) {
  double all = 0;
  for (const auto& [category, share] : shares) all += share;
  return all;
}

TEST(MeasureTraining, SaysWhereTheTimeGoes) {
  TrainingSpeed speed = measure_training(recall(), 0.3);
  EXPECT_GT(speed.milliseconds, 0);
  EXPECT_NEAR(speed.tokens_per_second, 1024 / (speed.milliseconds / 1e3), 1);
  // Two layers of width 64 have some 10^5 weights, and every token uses them six times.
  EXPECT_GT(speed.flops, 1024 * 6 * 5e4);
  EXPECT_LT(speed.flops, 1024 * 6 * 5e5);
  EXPECT_GT(speed.product_flops, 1e9);
  EXPECT_NEAR(speed.share_of_product(), speed.flops / (speed.milliseconds / 1e3) / speed.product_flops, 1e-12);
  for (const char* category : {"products", "recurrence", "other klab operators", "elementwise", "loss", "optimiser"}) {
    EXPECT_GT(speed.shares[category], 0) << category;
  }
  EXPECT_EQ(speed.shares["attention"], 0);
  EXPECT_NEAR(sum(speed.shares), 1, 1e-9);
  EXPECT_GT(speed.shares["products"] + speed.shares["recurrence"], 0.2) << "most of the work";
  EXPECT_GT(speed.shares["outside of operators"], 0);
  EXPECT_LT(speed.shares["outside of operators"], 0.5);
}

TEST(MeasureTraining, ALanguageModelHasAttentionToo) {
  TrainingSpeed speed = measure_training(language(), 0.3);
  EXPECT_NEAR(speed.tokens_per_second, 512 / (speed.milliseconds / 1e3), 1);
  for (const std::string& category : time_categories()) EXPECT_GE(speed.shares[category], 0) << category;
  EXPECT_GT(speed.shares["attention"], 0);
  EXPECT_NEAR(sum(speed.shares), 1, 1e-9);
  EXPECT_EQ(speed.shares.size(), time_categories().size());
}

TEST(MeasureTraining, TheOperatorsAreTheShares) {
  TrainingSpeed speed = measure_training(language(), 0.1);
  std::map<std::string, double> milliseconds;
  for (const OperatorTime& one : speed.operators) milliseconds[one.category] += one.milliseconds;
  ASSERT_FALSE(speed.operators.empty());
  EXPECT_GE(speed.operators.front().milliseconds, speed.operators.back().milliseconds);
  EXPECT_NEAR(milliseconds["products"] / milliseconds["recurrence"],
              speed.shares["products"] / speed.shares["recurrence"], 1e-6);
}

TEST(TrainingWorkload, OfLanguageIsAModelOfBytes) {
  TrainingWorkload workload;
  workload.task = "language";
  workload.pattern = {"kda*3", "mla"};
  workload.layers = 8;
  workload.width = 512;
  workload.head_dim = 64;
  workload.length = 1024;
  const RunConfig config = workload.config();
  EXPECT_EQ(config.vocabulary(), 256);
  EXPECT_EQ(config.train.batch, 8);
  EXPECT_EQ(config.task.length, 1024);
  EXPECT_EQ(config.model.heads, 8);
  EXPECT_EQ(config.model.head_dim, 64);
  const std::vector<std::string> layers = config.model.layer_mixers();
  EXPECT_EQ(layers, (std::vector<std::string>{"kda", "kda", "kda", "mla", "kda", "kda", "kda", "mla"}));
  const Batch batch = training_source(config)(0);
  EXPECT_EQ(batch.inputs.numel(), 8192);
  EXPECT_TRUE(batch.labels.ge(0).all().item<bool>()) << "a target at every position";
}

TEST(TrainingWorkload, FlopsAreThreeForwardPasses) {
  const TrainingWorkload workload = language();
  const RunConfig config = workload.config();
  const TrainingSpeed speed = measure_training(workload, 0.05);
  EXPECT_DOUBLE_EQ(speed.flops, 3 * 4 * account(make_model(config), 128).prefill_flops);
}

TEST(TrainingWorkload, ByDefaultIsTwoLayersOnRecall) {
  const RunConfig config = recall().config();
  EXPECT_EQ(config.task.name, "mqar");
  EXPECT_EQ(config.task.length, 256);
  EXPECT_EQ(config.model.layers, 2);
  EXPECT_EQ(config.model.heads, 2);
  EXPECT_EQ(config.model.head_dim, 32);
  EXPECT_EQ(config.train.batch, 4);
}

}  // namespace
}  // namespace klab
