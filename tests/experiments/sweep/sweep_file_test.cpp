// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/sweep_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/base/file.h"
#include "core/base/support.h"
#include "experiments/sweep/builtin_sweeps.h"

namespace klab {
namespace {

const std::string kBase =
    "base:\n  task: {name: copy, length: 9, vocab: 8}\n  train: {steps: 40, eval_every: 10}\n"
    "  model: {layers: 1, width: 8, heads: 1, head_dim: 8}\n";

Sweep sweep_of(const std::string& more, const std::vector<Assignment>& overrides = {}) {
  const Folder folder;
  write_file(folder / "mine.yaml", kBase + more);
  return read_sweep(folder / "mine.yaml", overrides);
}

std::string refusal(const std::string& more) {
  return message_of<UsageError>([&] { sweep_of(more); });
}

using Rows = std::vector<std::vector<std::string>>;

Rows values_of_runs(const Sweep& sweep) {
  Rows rows;
  for (const size_t i : sweep.plan.in_file_order()) rows.push_back(sweep.plan.runs[i].values);
  return rows;
}

TEST(SweepFile, AGridIsEveryCombinationTheLastAxisFastest) {
  const Sweep sweep = sweep_of("grid:\n  model.pattern: [kda, gdn]\n  train: {lr: [1e-3, 0.01]}\nseeds: [1, 2]\n");
  EXPECT_EQ(sweep.plan.name, "mine");
  EXPECT_EQ(sweep.plan.keys, (std::vector<std::string>{"model.pattern", "train.lr", "train.seed"}));
  EXPECT_EQ(values_of_runs(sweep), (Rows{{"[kda]", "0.001", "1"},
                                         {"[kda]", "0.001", "2"},
                                         {"[kda]", "0.01", "1"},
                                         {"[kda]", "0.01", "2"},
                                         {"[gdn]", "0.001", "1"},
                                         {"[gdn]", "0.001", "2"},
                                         {"[gdn]", "0.01", "1"},
                                         {"[gdn]", "0.01", "2"}}));
  EXPECT_EQ(sweep.configs[3].train.lr, 0.01);
  EXPECT_EQ(sweep.configs[3].train.seed, 2);
  EXPECT_EQ(sweep.plan.runs[0].steps, 40);
}

TEST(SweepFile, EqualRunsAreRunOnce) {
  const Sweep sweep = sweep_of("grid:\n  train.lr: [1e-3, 0.001, 0.0010]\n");
  EXPECT_EQ(sweep.plan.runs.size(), 1u);
  EXPECT_EQ(sweep.plan.asked, 3);
}

TEST(SweepFile, OverridesHoldForEveryRun) {
  const Sweep sweep = sweep_of("grid:\n  train.lr: [1e-3, 1e-2]\n", {{"train.steps", 20, "--steps"}});
  for (const RunConfig& config : sweep.configs) EXPECT_EQ(config.train.steps, 20);
}

TEST(SweepFile, RandomDrawsLieInTheirRangesAndAreShortToWrite) {
  const std::string more =
      "random:\n  runs: 40\n  seed: 3\n  train.lr: {log_uniform: [1e-4, 1e-1]}\n"
      "  train.warmup_ratio: {uniform: [0.25, 0.75]}\n  model.head_dim: {integer: [4, 6]}\n  train.beta2: [0.95, "
      "0.99]\n";
  const Sweep sweep = sweep_of(more);
  ASSERT_EQ(sweep.configs.size(), 40u);
  std::set<int64_t> widths;
  int small = 0;
  for (const RunConfig& config : sweep.configs) {
    EXPECT_GE(config.train.lr, 1e-4);
    EXPECT_LE(config.train.lr, 1e-1);
    EXPECT_LE(text_of(Value(config.train.lr)).size(), 10u) << text_of(Value(config.train.lr));
    EXPECT_LE(text_of(Value(config.train.warmup_ratio)).size(), 8u) << text_of(Value(config.train.warmup_ratio));
    EXPECT_GE(config.train.warmup_ratio, 0.25);
    EXPECT_LE(config.train.warmup_ratio, 0.75);
    widths.insert(config.model.head_dim);
    small += config.train.lr < std::sqrt(1e-4 * 1e-1);
  }
  EXPECT_EQ(widths, (std::set<int64_t>{4, 5, 6}));
  EXPECT_NEAR(small, 20, 15) << "log-uniform";
  const Sweep again = sweep_of(more);
  EXPECT_EQ(values_of_runs(again), values_of_runs(sweep));
}

TEST(SweepFile, ConditionsSetAddAndSkip) {
  const Sweep sweep = sweep_of(
      "grid:\n  model.pattern: [kda, gdn, mamba2]\n"
      "conditions:\n  - {when: {model.pattern: gdn}, set: {train.lr: 0.5}}\n"
      "  - {when: {model.pattern: mamba2}, skip: true}\n  - {when: {train.lr: 5e-1}, grid: {train.batch: [2, 4]}}\n");
  EXPECT_EQ(sweep.plan.keys, (std::vector<std::string>{"model.pattern", "train.lr", "train.batch"}));
  EXPECT_EQ(values_of_runs(sweep), (Rows{{"[kda]", "0.003", "64"}, {"[gdn]", "0.5", "2"}, {"[gdn]", "0.5", "4"}}));
}

TEST(SweepFile, HalvingGroupsAndShufflesDeterministically) {
  const std::string more =
      "grid:\n  model.pattern: [kda, gdn]\n  train.lr: [1e-3, 1e-2, 1e-1]\n"
      "halving: {metric: loss, steps: [10, 20], factor: 2, within: [model.pattern]}\n";
  const Sweep sweep = sweep_of(more);
  ASSERT_TRUE(sweep.plan.halving.has_value());
  EXPECT_EQ(sweep.plan.halving->metric, "loss");
  EXPECT_EQ(sweep.plan.halving->steps, (std::vector<int64_t>{10, 20}));
  std::set<std::string> groups;
  for (size_t i = 0; i < sweep.plan.runs.size(); ++i) {
    groups.insert(sweep.plan.runs[i].group);
    EXPECT_EQ(config_hash(sweep.configs[i]), sweep.plan.runs[i].id) << "configs move with their runs";
    if (i > 0) {
      EXPECT_LT(sweep.plan.runs[i - 1].id, sweep.plan.runs[i].id);
    }
  }
  EXPECT_EQ(groups.size(), 2u);
}

TEST(SweepFile, NumbersOutOfRangeAreRefusedAtOnce) {
  EXPECT_CONTAINS(refusal("random:\n  runs: 1000000000\n  train.lr: [1e-3]\n"),
                  "'random.runs' must be an integer between 1 and 100000");
  EXPECT_CONTAINS(refusal("random:\n  runs: 0\n  train.lr: [1e-3]\n"), "must be an integer between 1 and");
  EXPECT_CONTAINS(refusal("grid:\n  model.layers: [1000000000]\n"), "model.layers = 1000000000 must be between 1 and");
  EXPECT_CONTAINS(refusal("halving: {steps: [0]}\n"), "'halving.steps' must be an integer between 1 and");
  EXPECT_CONTAINS(refusal("halving: {steps: [10], factor: 1}\n"), "'halving.factor' must be an integer between 2 and");
  std::string axes;
  for (const char* key : {"train.beta1", "train.beta2", "train.weight_decay", "train.warmup_ratio", "train.stop_at"}) {
    axes += std::string("  ") + key + ": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]\n";
  }
  EXPECT_CONTAINS(refusal("grid:\n" + axes), "at most 100000 are allowed");
}

TEST(SweepFile, ListsAndMapsAreNotWords) {
  for (const char* more : {"[a]: 1\n", "grid: {[a]: [1]}\n", "random: {runs: 2, [a]: [1]}\n",
                           "random: {runs: 2, train.lr: {[a]: [1]}}\n"}) {
    EXPECT_CONTAINS(refusal(more), "a key must be a plain word") << more;
  }
  EXPECT_CONTAINS(refusal("conditions: [{when: {task.length: 9}, skip: [true]}]\n"), "'skip' must be a plain word");
  EXPECT_CONTAINS(refusal("halving: {steps: [10], metric: [loss]}\n"), "'halving.metric' must be a plain word");
  EXPECT_CONTAINS(refusal("halving: {steps: [10], within: [[a]]}\n"), "a key of 'halving.within' must be a plain word");
  EXPECT_CONTAINS(refusal("halving: {steps: [10], within: {a: b}}\n"), "'halving.within' must be a list of keys");
}

TEST(SweepFile, DrawsNeedValuesAndFiniteBounds) {
  EXPECT_CONTAINS(refusal("random: {runs: 2, train.lr: []}\n"), "'train.lr' must be a list of values");
  EXPECT_CONTAINS(refusal("random: {runs: 2, train.lr: {choice: []}}\n"), "'train.lr' must be a list of values");
  EXPECT_CONTAINS(refusal("random: {runs: 2, train.steps: {integer: [1, 1e300]}}\n"), "the bounds of an integer");
  for (const char* bounds : {"[1, .inf]", "[-1e308, 1e308]", "[.nan, 1]"}) {
    EXPECT_CONTAINS(refusal(std::string("random: {runs: 2, train.lr: {uniform: ") + bounds + "}}\n"),
                    "two numbers with low < high");
  }
}

TEST(SweepFile, SlowTheProgramsOwnSweepsAreBuiltIn) {
  EXPECT_GT(read_builtin_sweep("configs/demo.yaml").configs.size(), 2u);
  for (const char* figure : {"fig4", "fig5", "formal", "mad", "table1", "table5"}) {
    for (const char* scale : {"smoke", "small", "paper"}) {
      const std::string name = std::string("figures/") + figure + "/" + scale + ".yaml";
      EXPECT_FALSE(read_builtin_sweep(name).configs.empty()) << name;
    }
  }
  EXPECT_CONTAINS(message_of<Error>([] { builtin_sweep("configs/none.yaml"); }), "configs/none.yaml");
}

}  // namespace
}  // namespace klab
