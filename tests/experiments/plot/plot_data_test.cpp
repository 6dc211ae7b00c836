// SPDX-License-Identifier: Apache-2.0
#include "experiments/plot/plot_data.h"

#include <gtest/gtest.h>

#include <cmath>

#include "experiments/plot/support.h"

namespace klab {
namespace {

using Texts = std::vector<std::string>;

// The names of the columns that would be drawn.
struct Chosen {
  std::string x, y;
  Texts groups;
  std::string seed;
};

Chosen chosen(const std::string& csv, const PlotOptions& options = {}) {
  const PlotData data = plot_data(csv, options);
  const PlotColumns columns = choose_columns(data, options);
  Chosen names{data.name(columns.x), data.name(columns.y), {}, columns.seed ? data.name(*columns.seed) : ""};
  for (const size_t group : columns.groups) names.groups.push_back(data.name(group));
  return names;
}

std::string refusal(const std::string& csv, const PlotOptions& options) {
  return message_of<UsageError>([&] { chosen(csv, options); });
}

TEST(ParseNumber, TakesWholeTextsOnly) {
  EXPECT_EQ(parse_number("12"), 12);
  EXPECT_EQ(parse_number("-1.5e-3"), -0.0015);
  EXPECT_EQ(parse_number("+1.5"), 1.5);
  EXPECT_TRUE(std::isnan(parse_number("nan").value()));
  EXPECT_TRUE(std::isinf(parse_number("inf").value()));
  for (const char* text : {"", " 1", "1 ", "1x", "x", "1,5", "1e", "0x10", "[1]", "+", "-", "++1", "+-1", "+x"}) {
    EXPECT_FALSE(parse_number(text)) << "'" << text << "'";
  }
}

TEST(SortAsNumbers, OrdersByValueNotByLetters) {
  Texts texts = {"10", "9", "1e3", "-2", "0.5"};
  sort_as_numbers(texts);
  EXPECT_EQ(texts, (Texts{"-2", "0.5", "9", "10", "1e3"}));
}

TEST(LastPart, IsWhatStandsBehindTheLastPoint) {
  EXPECT_EQ(last_part("train.lr"), "lr");
  EXPECT_EQ(last_part("model.moe.experts"), "experts");
  EXPECT_EQ(last_part("loss"), "loss");
}

TEST(PlotData, KnowsTheValuesOfColumns) {
  const PlotData data = plot_data("length,mixer,note,depth\n64,b,,1\n8,a,,\n64,b,,2\n,c,,3\n");
  EXPECT_EQ(data.values(0), (Texts{"64", "8", ""}));
  EXPECT_EQ(data.values(1), (Texts{"b", "a", "c"}));
  EXPECT_EQ(data.ordered_values(0), (Texts{"", "8", "64"}));
  EXPECT_EQ(data.ordered_values(1), (Texts{"b", "a", "c"})) << "texts stay in the order of their appearance";
  EXPECT_TRUE(data.is_numeric(0)) << "empty cells are no texts";
  EXPECT_FALSE(data.is_numeric(1));
  EXPECT_FALSE(data.is_numeric(2)) << "nor numbers";
  EXPECT_TRUE(data.varies(3));
  EXPECT_FALSE(data.varies(2));
  EXPECT_EQ(data.key(0, {0, 1}), data.key(2, {0, 1}));
  EXPECT_NE(data.key(0, {0, 1}), data.key(1, {0, 1}));
  EXPECT_NE(data.key(0, {0, 3}), data.key(2, {0, 3}));
}

TEST(PlotData, OneWordMakesAColumnOfTexts) {
  EXPECT_FALSE(plot_data("depth,y\n1,1\nall,2\n").is_numeric(0));
  EXPECT_TRUE(plot_data("depth,y\n1,1\nnan,2\n").is_numeric(0)) << "a failed measurement is no name";
}

TEST(ReadPlotData, KeepsValidationRowsWhereThereAreSome) {
  const PlotData kept = plot_data("step,split,loss\n1,train,7\n1,validation,3\n2,train,6\n2,validation,2\n2,test,9\n");
  EXPECT_EQ(kept.values(2), (Texts{"3", "2"}));
}

TEST(ReadPlotData, OfEarlierVersionsKeepsTestRows) {
  const std::string csv = "step,split,loss\n1,train,7\n1,test,3\n2,train,6\n2,test,2\n";
  const PlotData test = plot_data(csv);
  ASSERT_EQ(test.table.rows.size(), 2u);
  EXPECT_EQ(test.cell(1, 2), "2");
  EXPECT_EQ(test.sources[1].row, 4u) << "counted in the file";
  PlotOptions options;
  options.split = "train";
  EXPECT_EQ(plot_data(csv, options).cell(1, 2), "6");
  options.split = "all";
  EXPECT_EQ(plot_data(csv, options).table.rows.size(), 4u);
  EXPECT_EQ(plot_data("step,split,loss\n1,train,7\n").table.rows.size(), 1u) << "all where there are no test rows";
}

TEST(ReadPlotData, KeepsTheSplitThatHasValues) {
  const std::string csv =
      "step,split,loss,grad_norm\n1,train,7,0.5\n1,validation,3,\n2,train,6,0.25\n2,validation,2,\n";
  PlotOptions options;
  EXPECT_EQ(plot_data(csv, options).values(2), (Texts{"3", "2"}));
  options.y = "grad_norm";
  EXPECT_EQ(plot_data(csv, options).values(2), (Texts{"7", "3", "6", "2"})) << "validation has no gradients";
}

TEST(ReadPlotData, RefusesASplitThatThereIsNot) {
  PlotOptions options;
  options.split = "valid";
  EXPECT_CONTAINS(refusal("step,split,loss\n1,train,7\n1,test,3\n", options), "train, test");
  EXPECT_CONTAINS(refusal("step,loss\n1,7\n", options), "split = valid");
  options.split = "all";
  EXPECT_EQ(plot_data("step,loss\n1,7\n", options).table.rows.size(), 1u);
}

TEST(ReadPlotData, KeepsRowsThatMeetEveryCondition) {
  const std::string csv = "task,lr,y\n[a],1,10\n[b],1,20\n[a],2,30\n\"[a, b]\",2,40\n";
  PlotOptions options;
  options.where = {"task=a"};
  EXPECT_EQ(plot_data(csv, options).values(2), (Texts{"10", "30"})) << "a list of one is found by its item";
  options.where = {"task=a", "lr=2"};
  EXPECT_EQ(plot_data(csv, options).values(2), Texts{"30"});
  options.where = {"task=[a, b]"};
  EXPECT_EQ(plot_data(csv, options).values(2), Texts{"40"});
  options.where = {"task=a", "lr=3"};
  EXPECT_CONTAINS(refusal(csv, options), "where = lr=3");
  options.where = {"task"};
  EXPECT_CONTAINS(refusal(csv, options), "column=value");
  options.where = {"tusk=a"};
  EXPECT_CONTAINS(refusal(csv, options), "'task'");
  const std::string formula = "name,y\na=b,1\nc,2\n";
  options.where = {"name=a=b"};
  EXPECT_EQ(plot_data(formula, options).values(1), Texts{"1"}) << "the first '=' separates";
}

TEST(ReadPlotData, JoinsTheColumnsOfSeveralFiles) {
  const Folder folder;
  PlotOptions options;
  for (const std::string run : {"first", "second"}) {
    std::filesystem::create_directory(folder / run);
    options.files.push_back(folder / (run + "/a.csv"));
  }
  write_file(options.files[0], "step,loss\n1,2\n");
  write_file(options.files[1], "loss,step,lr\n4,3,0.1\n");
  const PlotData data = read_plot_data(options);
  EXPECT_EQ(data.table.columns, (Texts{"step", "loss", "lr", "run"}));
  EXPECT_EQ(data.table.rows[0], (Texts{"1", "2", "", "first"}));
  EXPECT_EQ(data.table.rows[1], (Texts{"3", "4", "0.1", "second"}));
  EXPECT_EQ(data.sources[1].file, options.files[1]);
  EXPECT_EQ(data.sources[1].row, 1u);
}

TEST(ReadPlotData, CallsRunsByTheirPathsWhereFoldersAreTheSame) {
  const Folder folder;
  PlotOptions options;
  for (const std::string name : {"a.csv", "b.csv"}) {
    options.files.push_back(folder / name);
    write_file(options.files.back(), "step,loss\n1,2\n");
  }
  const PlotData data = read_plot_data(options);
  EXPECT_EQ(data.values(data.table.column("run")), options.files);
}

TEST(ReadPlotData, NeedsFilesWithRows) {
  EXPECT_THROW(read_plot_data({}), UsageError);
  EXPECT_CONTAINS(failure_of([] { plot_data("step,loss\n"); }), "a.csv");
}

TEST(ChooseColumns, PrefersSharesOfSequencesThenTheLoss) {
  EXPECT_EQ(chosen("step,loss,acc_seq,z\n1,2,3,4\n").y, "acc_seq");
  EXPECT_EQ(chosen("step,loss,z\n1,2,3\n").y, "loss");
  EXPECT_EQ(chosen("step,a,b,word,seed\n1,2,3,x,4\n").y, "b") << "the last column of numbers that is no seed";
  PlotOptions options;
  options.y = "a";
  EXPECT_EQ(chosen("step,a,b\n1,2,3\n", options).y, "a");
  EXPECT_CONTAINS(refusal("word,seed\nx,1\n", {}), "word, seed");
}

TEST(ChooseColumns, DrawsAlongStepsElseAlongWhatVaries) {
  EXPECT_EQ(chosen("n,step,loss\n1,1,2\n2,1,3\n").x, "step");
  EXPECT_EQ(chosen("seed,word,same,n,loss\n1,a,5,1,2\n2,b,5,2,3\n").x, "n") << "numbers before texts";
  EXPECT_EQ(chosen("seed,word,same,loss\n1,a,5,2\n2,b,5,3\n").x, "word");
  EXPECT_CONTAINS(refusal("same,loss\n1,2\n1,3\n", {}), "'loss'");
  PlotOptions options;
  options.x = "loss";
  EXPECT_CONTAINS(refusal("step,loss\n1,2\n", options), "x and y");
}

TEST(ChooseColumns, TellsCurvesApartByTextsAndVariedParameters) {
  const Chosen sweep = chosen(
      "step,mixer,train.lr,same,train.seed,loss\n1,kda,0.1,x,1,1\n1,gdn,0.1,x,2,2\n1,kda,0.2,x,1,3\n1,gdn,0.2,x,2,4\n");
  EXPECT_EQ(sweep.groups, (Texts{"mixer", "train.lr"}));
  EXPECT_EQ(sweep.seed, "train.seed");
  const Chosen schedule =
      chosen("step,mixer,lr,seed,loss\n1,kda,0.1,1,1\n2,kda,0.2,1,2\n1,gdn,0.1,1,3\n2,gdn,0.2,1,4\n");
  EXPECT_EQ(schedule.groups, Texts{"mixer"}) << "a learning rate that follows from the step is no parameter";
  EXPECT_EQ(schedule.seed, "") << "one seed tells nothing apart";
  EXPECT_EQ(chosen("step,grad_norm,loss\n1,5,1\n1,6,2\n").groups, Texts{}) << "a measured number is no parameter";
}

TEST(ChooseColumns, GroupsAsAsked) {
  const std::string csv = "step,mixer,lr,loss\n1,kda,0.1,1\n1,gdn,0.2,2\n";
  PlotOptions options;
  options.group_by = "none";
  EXPECT_EQ(chosen(csv, options).groups, Texts{});
  options.group_by = "lr, mixer";
  EXPECT_EQ(chosen(csv, options).groups, (Texts{"lr", "mixer"}));
  options.group_by = "mixr";
  EXPECT_CONTAINS(refusal(csv, options), "'mixer'");
}

TEST(ChooseColumns, AnEmptyCellIsNoValue) {
  EXPECT_EQ(chosen("step,loss,acc_seq\n1,2,\n2,1,\n").y, "loss") << "nothing is known of acc_seq";
  EXPECT_EQ(chosen("step,n,loss\n,1,2\n,2,1\n").x, "n");
  EXPECT_EQ(chosen("one,n,loss\n5,1,2\n,2,1\n").x, "n") << "one value does not vary";
  EXPECT_EQ(chosen("step,lr,loss\n1,0.1,2\n1,,1\n").groups, Texts{}) << "nor does it differ from none";
  EXPECT_EQ(chosen("step,note,loss\n1,a,2\n1,b,\n2,a,1\n").groups, Texts{}) << "b has no point";
  EXPECT_EQ(chosen("step,mixer,loss\n1,kda,2\n1,,1\n").groups, Texts{"mixer"}) << "no text is another text";
  PlotOptions options;
  options.y = "acc_seq";
  EXPECT_CONTAINS(failure_of([&] { chosen("step,loss,acc_seq\n1,2,\n2,1,\n", options); }),
                  "a.csv: no row has a value of acc_seq");
  options.x = "step";
  EXPECT_CONTAINS(failure_of([&] { chosen("step,acc_seq\n1,\n,3\n", options); }),
                  "a.csv: no row has values of both step and acc_seq");
}

TEST(ChooseColumns, RunsThatNothingElseTellsApartAreCurves) {
  EXPECT_EQ(chosen("step,run,loss\n1,a,1\n1,b,2\n").groups, Texts{"run"});
  EXPECT_EQ(chosen("step,run,seed,loss\n1,a,1,1\n1,b,2,2\n").groups, Texts{}) << "seeds of one curve";
  EXPECT_EQ(chosen("step,run,mixer,loss\n1,a,kda,1\n1,b,gdn,2\n").groups, Texts{"mixer"});
}

}  // namespace
}  // namespace klab
