// SPDX-License-Identifier: Apache-2.0
// Compute against formulas, runs that are made up, and laws that are known.
#include "experiments/figures/fig5/scaling_runs.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "experiments/study/support.h"

namespace klab {
namespace {

RunConfig small_config(int64_t length, int64_t layers = 3) {
  return make_run_config({{"task.name", "language", ""},
                          {"task.length", length, ""},
                          {"model.pattern", "mla_rope", ""},
                          {"model.layers", layers, ""},
                          {"model.width", 16, ""},
                          {"model.heads", 2, ""},
                          {"model.head_dim", 8, ""},
                          {"train.batch", 5, ""},
                          {"train.steps", 7, ""}});
}

TEST(TrainingCost, CountsTokensAndThreeForwardPassesWithAttention) {
  const TrainingCost short_cost = training_cost(small_config(64)), long_cost = training_cost(small_config(128));
  EXPECT_EQ(short_cost.tokens, 5 * 7 * 64);
  EXPECT_EQ(long_cost.parameters, short_cost.parameters);
  // All but attention is proportional to the tokens. Equation 14 for 2 heads in 3 layers, whose keys have 8 + 4
  // channels and whose values 8: T^2 (12 + 8) each.
  EXPECT_DOUBLE_EQ(long_cost.flops - 2 * short_cost.flops, 3.0 * 35 * 3 * 2 * (128 * 128 - 2 * 64 * 64) * 20);
  // Six FLOPs per parameter and token; also for the head, 16 x 71; the norms' weights are parameters without products.
  const double tokens = 35 * 64, attention = 3.0 * 35 * 3 * 2 * 64 * 64 * 20, head = 6 * tokens * 16 * 71;
  const double rest = short_cost.flops - attention - head;
  EXPECT_NEAR(rest / (6 * tokens * static_cast<double>(short_cost.parameters)), 1, 0.05);
}

// Cells of two layers counts; the runs have folders with a config, and with evaluations if they finished.
class ScalingSizes : public testing::Test {
 protected:
  const RunSummary* run(int64_t layers, int64_t seed, RunState state, double loss) {
    const std::string path = folder_ / fmt::format("{}-{}-{}", layers, seed, runs_.size());
    std::filesystem::create_directories(path);
    write_file(path + "/config.yaml", to_yaml(small_config(64, layers)));
    if (state == RunState::finished) {
      write_file(path + "/evaluations.csv", fmt::format("variant,length,measure,difficulty,loss,excess\n,64,gap,0,9,8\n"
                                                        ",64,gap,all,{},{}\nlanguage.open=0.1,64,gap,all,7,6\n",
                                                        loss, loss - 1));
    }
    RunSummary& one = *runs_.emplace_back(std::make_unique<RunSummary>());
    one = {path, {{"train.seed", seed}, {"model.layers", layers}}, {}};
    one.record.state = state;
    return &one;
  }

  Folder folder_;
  std::vector<std::unique_ptr<RunSummary>> runs_;
};

TEST_F(ScalingSizes, AreByArchitectureAndHoldTheRunsThatFinished) {
  const std::vector<StudyCell> cells = {
      {{Value(2)},
       {{"b", {run(2, 4, RunState::finished, 3), run(2, 5, RunState::diverged, 0)}},
        {"a", {run(2, 4, RunState::finished, 4)}}}},
      {{Value(4)}, {{"b", {run(4, 4, RunState::finished, 2.5)}}, {"a", {run(4, 5, RunState::diverged, 0)}}}}};
  const std::vector<ScalingSize> sizes = scaling_sizes(cells);
  ASSERT_EQ(sizes.size(), 4u);
  std::string order;
  for (const ScalingSize& size : sizes) order += size.architecture + size.size + " ";
  EXPECT_EQ(order, "b2 b4 a2 a4 ");
  ASSERT_EQ(sizes[0].runs.size(), 1u);
  EXPECT_EQ(sizes[0].runs[0].seed, 4);
  EXPECT_EQ(sizes[0].runs[0].loss, 3) << "all targets of the run's own task";
  EXPECT_EQ(sizes[0].runs[0].excess, 2);
  EXPECT_EQ(sizes[0].diverged, 1u);
  EXPECT_EQ(sizes[1].diverged, 0u);
  EXPECT_TRUE(sizes[3].runs.empty());
  EXPECT_EQ(sizes[1].cost.flops, training_cost(small_config(64, 4)).flops);
}

TEST(ScalingSizesOfNothing, AreNone) { EXPECT_TRUE(scaling_sizes({}).empty()); }

// Sizes of an architecture whose runs are on factor C^exponent, C in TFLOPs, two seeds slightly above and below.
void add(std::vector<ScalingSize>& sizes, const std::string& name, size_t count, double factor, double exponent,
         double noise = 0.001) {
  for (size_t i = 0; i < count; ++i) {
    const double compute = std::pow(2.0, static_cast<double>(i)), loss = factor * std::pow(compute, exponent);
    sizes.push_back({name, fmt::format("{}", i), {100, 1000, compute * 1e12}, {}, 0});
    sizes.back().runs = {{1, loss * (1 + noise), 1}, {2, loss * (1 - noise), 1}};
  }
}

TEST(FitArchitectures, FitsEveryArchitectureOfEnoughSizes) {
  std::vector<ScalingSize> sizes;
  add(sizes, "a", 5, 3, -0.1);
  add(sizes, "b", 3, 2, -0.05);
  add(sizes, "c", 3, 2, -0.05);
  sizes.back().runs.clear();
  const std::vector<ArchitectureFit> fits = fit_architectures(sizes);
  ASSERT_EQ(fits.size(), 3u);
  EXPECT_NEAR(fits[0].line->law.factor, 3, 1e-4);
  EXPECT_NEAR(fits[0].line->exponent.value, -0.1, 1e-6);
  EXPECT_TRUE(fits[0].line->exponent.interval.contains(-0.1));
  EXPECT_LT(fits[0].line->exponent.interval.high - fits[0].line->exponent.interval.low, 0.003);
  EXPECT_NEAR(fits[0].saturating->at(4), 3 * std::pow(4, -0.1), 1e-3);
  EXPECT_NEAR(fits[1].line->law.exponent, -0.05, 1e-6);
  EXPECT_EQ(fits[2].architecture, "c");
  EXPECT_EQ(fits[2].curve.size(), 2u);
  EXPECT_FALSE(fits[2].line || fits[2].saturating) << "one of three sizes has no run";
}

TEST(ComputeAdvantage, IsTheRatioOrSaysWhyNot) {
  std::vector<ScalingSize> sizes;
  add(sizes, "slow", 5, 3, -0.1);
  add(sizes, "fast", 5, 3 * std::pow(1.3, -0.1), -0.1);  // the loss that slow has with 1.3 times the compute
  add(sizes, "few", 2, 3, -0.1);
  add(sizes, "flat", 5, 3, -0.0001, 0.01);
  add(sizes, "low", 5, 0.5, -0.1);
  const std::vector<ArchitectureFit> fits = fit_architectures(sizes);
  const ComputeAdvantage found = compute_advantage(fits, {"fast", "slow"});
  ASSERT_TRUE(found.found);
  EXPECT_NEAR(found.found->ratio.value, 1.3, 1e-6);
  EXPECT_LT(found.found->ratio.interval.low, 1.3);
  EXPECT_GT(found.found->ratio.interval.high, 1.3);
  const auto why_not = [&](const Claim& claim) {
    const ComputeAdvantage one = compute_advantage(fits, claim);
    return one.found ? "found" : one.why_not;
  };
  EXPECT_EQ(why_not({"few", "slow"}), "few: runs of fewer than 3 sizes");
  EXPECT_EQ(why_not({"slow", "none"}), "none: runs of fewer than 3 sizes");
  EXPECT_EQ(why_not({"flat", "slow"}), "flat: the interval of the exponent contains values that are not negative");
  EXPECT_EQ(why_not({"low", "slow"}), "no loss that both reach");
}

}  // namespace
}  // namespace klab
