// SPDX-License-Identifier: Apache-2.0
// Tables of scores that are made up.
#include "experiments/figures/task_scores/task_scores.h"

#include <gtest/gtest.h>

#include "core/base/support.h"

namespace klab {
namespace {

std::vector<TaskScore> made_up_scores() {
  return {{"KDA", "parity", "1x", 0.5, {{2, 1.0}, {3, 0.5}}},
          {"KDA", "parity", "4x", 0.5, {{2, 0.75}}},
          {"KDA", "S3", "1x", 1.0 / 6, {{2, 1.0}}},
          {"GDN", "parity", "1x", 0.5, {}}};
}

TEST(ScaledAccuracy, HasAGuessAtZero) {
  EXPECT_DOUBLE_EQ(scaled_accuracy(0.2, 0.2), 0);
  EXPECT_DOUBLE_EQ(scaled_accuracy(1, 0.2), 1);
  EXPECT_DOUBLE_EQ(scaled_accuracy(0.4, 0.5), -0.2);
  EXPECT_DOUBLE_EQ(scaled_accuracy(0.3, 0), 0.3);
}

TEST(ScoreTable, HasMeansAndPublishedScoresAtTheLastLength) {
  const std::vector<std::string> lines =
      score_table(made_up_scores(), {{"KDA", {{"parity", 98.5}}}, {"Mamba", {{"parity", 7}}}});
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[0], "| mixer | length | parity | S3 | published: parity |");
  EXPECT_EQ(lines[1], "| --- | --- | --- | --- | --- |");
  EXPECT_EQ(lines[2].rfind("| KDA | 1x | 50.0 [", 0), 0u) << "an interval of two seeds: " << lines[2];
  EXPECT_CONTAINS(lines[2], "] | 100.0 |  |");
  EXPECT_EQ(lines[3], "| KDA | 4x | 50.0 | - | 98.5 |");
  EXPECT_EQ(lines[4], "| GDN | 1x | - | - | - |");
  EXPECT_EQ(lines[5], "| Mamba | 4x | - | - | 7 |");
}

TEST(ScoreTable, HasNoColumnOfASingleLength) {
  const std::vector<std::string> lines = score_table({{"kda", "compression", "", 0, {{2, 0.425}}}}, {});
  EXPECT_EQ(lines, (std::vector<std::string>{"| mixer | compression |", "| --- | --- |", "| kda | 42.5 |"}));
  EXPECT_TRUE(score_table({}, {{"Mamba", {{"parity", 7}}}}).empty());
}

TEST(ScoresCsv, HasARowPerSeed) {
  const CsvTable table = scores_csv(made_up_scores(), {"a command"});
  EXPECT_EQ(table.comments, std::vector<std::string>{"a command"});
  ASSERT_EQ(table.rows.size(), 4u);
  EXPECT_EQ(table.rows[1], (std::vector<std::string>{"KDA", "parity", "1x", "3", "0.500000", "0.000000"}));
  EXPECT_EQ(table.rows[2], (std::vector<std::string>{"KDA", "parity", "4x", "2", "0.750000", "0.500000"}));
}

}  // namespace
}  // namespace klab
