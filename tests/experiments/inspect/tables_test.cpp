// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/tables.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/base/support.h"
#include "experiments/inspect/support.h"

namespace klab {
namespace {

using Rows = std::vector<std::vector<std::string>>;

CsvTable table_named(const std::string& file, const Inspection& found = sample_inspection()) {
  for (const NamedTable& table : inspection_tables(found, {"made by: a test"})) {
    if (table.file == file) return table.table;
  }
  ADD_FAILURE() << "there is no " << file;
  return {};
}

std::vector<std::string> files_of(const Inspection& found) {
  std::vector<std::string> files;
  for (const NamedTable& table : inspection_tables(found, {})) files.push_back(table.file);
  return files;
}

TEST(MixerView, IsNamedByItsLayerAndItsPart) {
  const MixerView whole{3, -1, "kda"}, part{3, 1, "mla"};
  EXPECT_EQ(whole.title(), "layer 3: kda");
  EXPECT_EQ(whole.stem(), "layer3_kda");
  EXPECT_EQ(part.title(), "layer 3, heads of kind 1: mla");
  EXPECT_EQ(part.stem(), "layer3_1_mla");
}

TEST(InspectionTables, AreThoseThatTheMixersHave) {
  Inspection found = sample_inspection();
  EXPECT_TRUE(found.any_linear());
  EXPECT_EQ(files_of(found),
            (std::vector<std::string>{"accuracy.csv", "example.csv", "half_life.csv", "effective_rank.csv",
                                      "weights_layer0_kda.csv", "weights_layer1_1_mla.csv"}));
  found.mixers.erase(found.mixers.begin());
  EXPECT_FALSE(found.any_linear());
  EXPECT_EQ(files_of(found), (std::vector<std::string>{"accuracy.csv", "example.csv", "weights_layer1_1_mla.csv"}));
}

TEST(InspectionTables, HalfLivesHaveARowPerHeadAndChannel) {
  const CsvTable table = table_named("half_life.csv");
  EXPECT_EQ(table.columns,
            (std::vector<std::string>{"layer", "part", "mixer", "head", "channel", "mean_g", "half_life", "resets"}));
  EXPECT_EQ(table.rows, (Rows{{"0", "", "kda", "0", "0", "-0.5", "1.5", "0"},
                              {"0", "", "kda", "0", "1", "0", "inf", "0"},
                              {"0", "", "kda", "1", "0", "-0.25", "3", "0.125"},
                              {"0", "", "kda", "1", "1", "-1", "0", "1"}}));
  EXPECT_EQ(table.comments, std::vector<std::string>{"made by: a test"});
}

TEST(InspectionTables, RanksHaveARowPerHeadTokensAndExample) {
  EXPECT_EQ(table_named("effective_rank.csv").rows, (Rows{{"0", "", "kda", "0", "1", "0", "1"},
                                                          {"0", "", "kda", "0", "1", "1", "1"},
                                                          {"0", "", "kda", "0", "3", "0", "2"},
                                                          {"0", "", "kda", "0", "3", "1", "2.5"},
                                                          {"0", "", "kda", "1", "1", "0", "1"},
                                                          {"0", "", "kda", "1", "1", "1", "1"},
                                                          {"0", "", "kda", "1", "3", "0", "1.5"},
                                                          {"0", "", "kda", "1", "3", "1", "1.25"}}));
}

TEST(InspectionTables, WeightsAreEmptyForLaterTokens) {
  const CsvTable table = table_named("weights_layer0_kda.csv");
  EXPECT_EQ(table.columns, (std::vector<std::string>{"head", "position", "token", "of_0", "of_1", "of_2"}));
  ASSERT_EQ(table.rows.size(), 6u);
  EXPECT_EQ(table.rows[0], (std::vector<std::string>{"0", "0", "a", "1", "", ""}));
  EXPECT_EQ(table.rows[4], (std::vector<std::string>{"1", "1", "b", "-0.5", "1", ""}));
  EXPECT_EQ(table.rows[5], (std::vector<std::string>{"1", "2", "a", "0", "0.25", "1"}));
}

TEST(InspectionTables, AccuracyIsOfAllThenBySlices) {
  EXPECT_EQ(table_named("accuracy.csv").rows, (Rows{{"distance", "all", "8", "0.375000", "0.750000", "0.750000"},
                                                    {"distance", "1", "2", "0.500000", "1.000000", ""},
                                                    {"distance", "4", "6", "0.333333", "0.666667", ""}}));
}

TEST(InspectionTables, TheExampleHasItsAnswersAtTheirPositions) {
  EXPECT_EQ(table_named("example.csv").rows,
            (Rows{{"0", "4", "a", "", "", ""}, {"1", "5", "b", "", "", ""}, {"2", "4", "a", "b", "a", "0.25"}}));
}

}  // namespace
}  // namespace klab
