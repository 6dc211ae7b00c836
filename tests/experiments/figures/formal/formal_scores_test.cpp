// SPDX-License-Identifier: Apache-2.0
// Scores and verdicts of runs that are made up.
#include "experiments/figures/formal/formal_scores.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "core/base/file.h"
#include "core/base/support.h"
#include "core/base/text.h"

namespace klab {
namespace {

RunSummary run_of(const std::string& task, const std::string& option, const Value& value) {
  return {"", {{"task.name", task}, {"task." + task + "." + option, value}}, {}};
}

TEST(ChanceOf, IsOneOfThePossibleAnswers) {
  EXPECT_DOUBLE_EQ(chance_of(run_of("state_tracking", "group", "parity")), 0.5);
  EXPECT_DOUBLE_EQ(chance_of(run_of("state_tracking", "group", "a5")), 1.0 / 60);
  EXPECT_DOUBLE_EQ(chance_of(run_of("modular_arithmetic", "modulus", 5)), 0.2);
  EXPECT_DOUBLE_EQ(chance_of(run_of("cycle_navigation", "cycle", 4)), 0.25);
  EXPECT_DOUBLE_EQ(chance_of(run_of("dyck", "kinds", 2)), 1.0 / 3);
  EXPECT_CONTAINS(failure_of([] { chance_of(run_of("mqar", "pairs", 8)); }), "is not known for the task mqar");
}

// Runs on parity at 16 tokens, evaluated at 16 and 64.
class FormalScores : public testing::Test {
 protected:
  const RunSummary* run(int64_t seed, RunState state, double trained = 0, double longer = 0) {
    const std::string path = folder_ / fmt::format("{}", runs_.size());
    std::filesystem::create_directories(path);
    if (state == RunState::finished) {
      write_file(path + "/evaluations.csv",
                 fmt::format("variant,length,difficulty,acc_tok\n,16,all,{}\n,16,8,0.1\nlength=64,64,all,{}\n", trained,
                             longer));
    }
    RunSummary& one = *runs_.emplace_back(std::make_unique<RunSummary>());
    one = run_of("state_tracking", "group", "parity");
    one.folder = path;
    one.config["task.length"] = 16;
    one.config["test.also"] = Value::parse(R"([{"length": 64, "state_tracking.min_length": 17}])");
    one.config["train.seed"] = seed;
    one.record.state = state;
    return &one;
  }

  // The scores of one mixer.
  static std::vector<TaskScore> scores_of(const std::vector<const RunSummary*>& runs) {
    StudyCell cell;
    cell.values.emplace_back("parity");
    cell.runs.emplace_back("KDA", runs);
    return formal_scores({cell});
  }

  Folder folder_;
  std::vector<std::unique_ptr<RunSummary>> runs_;
};

TEST_F(FormalScores, AreThoseOfAllDifficultiesAtEveryLength) {
  const std::vector<TaskScore> scores =
      scores_of({run(2, RunState::finished, 1, 0.75), run(3, RunState::finished, 0.9, 0.6)});
  ASSERT_EQ(scores.size(), 2u);
  EXPECT_EQ(scores[0].mixer, "KDA");
  EXPECT_EQ(scores[0].task, "parity");
  EXPECT_EQ(scores[0].length, "1x");
  EXPECT_EQ(scores[1].length, "4x");
  EXPECT_DOUBLE_EQ(scores[1].chance, 0.5);
  EXPECT_EQ(scores[0].accuracies(), (std::vector<double>{1, 0.9}));
  EXPECT_EQ(scores[1].seeds, (std::vector<std::pair<int64_t, double>>{{2, 0.75}, {3, 0.6}}));
}

TEST_F(FormalScores, ARunThatDivergedIsAGuess) {
  const std::vector<TaskScore> scores = scores_of({run(2, RunState::diverged), run(3, RunState::finished, 1, 1)});
  EXPECT_EQ(scores[0].accuracies(), (std::vector<double>{0.5, 1}));
  EXPECT_EQ(scores[1].accuracies(), (std::vector<double>{0.5, 1}));
}

StudyConfig claiming(const std::string& better, const std::string& than) {
  StudyConfig config;
  config.claims.push_back(Value{{"better", better}, {"than", than}});
  return config;
}

TaskScore score_of(const std::string& mixer, const std::string& length, double accuracy) {
  TaskScore score{mixer, "parity", length, 0.5, {}};
  for (int64_t seed = 2; seed < 8; ++seed) {
    score.seeds.emplace_back(seed, accuracy + 0.001 * static_cast<double>(seed));
  }
  return score;
}

TEST(LongerVerdicts, JudgeTheClaimsBeyondTheTrainedLength) {
  const std::vector<TaskScore> scores = {score_of("KDA", "1x", 0.9), score_of("GDN", "1x", 0.9),
                                         score_of("KDA", "4x", 0.9), score_of("GDN", "4x", 0.5)};
  const std::vector<std::string> lines = longer_verdicts(scores, claiming("KDA", "GDN"));
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[2], "| KDA above GDN | parity | 4x | +40.0 | held (p = .002) |");
  const std::vector<std::string> alone = longer_verdicts({score_of("KDA", "4x", 0.9)}, claiming("KDA", "GDN"));
  EXPECT_EQ(alone.back(), "| KDA above GDN | parity | 4x | - | not measured |");
  EXPECT_TRUE(longer_verdicts({score_of("KDA", "1x", 0.9)}, claiming("KDA", "GDN")).empty());
}

}  // namespace
}  // namespace klab
