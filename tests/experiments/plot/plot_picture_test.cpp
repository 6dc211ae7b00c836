// SPDX-License-Identifier: Apache-2.0
#include "experiments/plot/plot_picture.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "experiments/plot/support.h"

namespace klab {
namespace {

using Texts = std::vector<std::string>;

Texts names_of(const Picture& picture) {
  Texts names;
  for (const PlotCurve& curve : picture.curves) names.push_back(curve.name);
  return names;
}

Texts tics_of(const PlotAxis& axis) {
  Texts tics;
  for (const auto& [text, place] : axis.tics) tics.push_back(text);
  return tics;
}

// A column x with these values under increasing y.
std::string along_x(const Texts& values, const std::string& name = "x") {
  std::string csv = name + ",y\n";
  for (size_t i = 0; i < values.size(); ++i) csv += values[i] + "," + std::to_string(i + 1) + "\n";
  return csv;
}

TEST(ColumnName, IsInPlainWords) {
  EXPECT_EQ(column_name("acc_tok"), "tokens right");
  EXPECT_EQ(column_name("train.lr"), "learning rate");
  EXPECT_EQ(column_name("test_acc_tok"), "tokens right (test)");
  EXPECT_EQ(column_name("best_test_acc_seq"), "sequences right (test, best step)");
  EXPECT_EQ(column_name("model.moe.experts_per_token"), "experts per token");
}

TEST(ValueName, WritesMixersAsPeopleDo) {
  EXPECT_EQ(value_name("[kda]"), "KDA");
  EXPECT_EQ(value_name("mamba2"), "Mamba-2");
  EXPECT_EQ(value_name("[kda, mla]"), "kda, mla");
  EXPECT_EQ(value_name("other"), "other");
}

TEST(PlotAxis, PlacesAreSharesOfTheAxis) {
  PlotAxis axis;
  axis.low = 10;
  axis.high = 1000;
  EXPECT_DOUBLE_EQ(axis.place(505), 0.5);
  axis.log = true;
  EXPECT_DOUBLE_EQ(axis.place(100), 0.5);
  EXPECT_DOUBLE_EQ(axis.place(10), 0);
  EXPECT_DOUBLE_EQ(axis.place(1000), 1);
}

TEST(ComposePicture, RowsThatShareAPlaceBecomeTheirMeanInABand) {
  const Picture picture = picture_of("step,mixer,seed,loss\n1,kda,1,2\n1,kda,2,4\n2,kda,1,1\n2,kda,2,1\n1,gdn,1,5\n");
  ASSERT_EQ(names_of(picture), (Texts{"KDA", "GDN"}));
  const PlotPoint& point = picture.curves[0].points.at(1);
  EXPECT_DOUBLE_EQ(point.mean(), 3);
  EXPECT_DOUBLE_EQ(point.low, 2);
  EXPECT_DOUBLE_EQ(point.high, 4);
  EXPECT_TRUE(picture.bands);
  EXPECT_EQ(picture.caption, "mean of 2 seeds; thin lines: each");
  EXPECT_EQ(picture.x.label, "training step");
  EXPECT_EQ(picture.y.label, "cross-entropy loss (nats)");
}

TEST(ComposePicture, EverySeedHasItsPath) {
  using Path = std::vector<std::pair<double, double>>;
  const Picture picture = picture_of(
      "step,mixer,seed,loss\n1,kda,1,2\n1,kda,2,4\n2,kda,1,1\n2,kda,2,1\n3,kda,2,0.5\n1,gdn,1,5\n2,gdn,1,3\n");
  ASSERT_EQ(names_of(picture), (Texts{"KDA", "GDN"}));
  EXPECT_TRUE(picture.seeds);
  ASSERT_EQ(picture.curves[0].seeds.size(), 2u);
  EXPECT_EQ(picture.curves[0].seeds[0], (Path{{1, 2}, {2, 1}})) << "to where the run ended";
  EXPECT_EQ(picture.curves[0].seeds[1], (Path{{1, 4}, {2, 1}, {3, 0.5}}));
  ASSERT_EQ(picture.curves[1].seeds.size(), 1u);
  EXPECT_EQ(picture.curves[1].seeds[0], (Path{{1, 5}, {2, 3}}));
  EXPECT_EQ(picture.curves[0].points.at(3).rows, std::vector<double>{0.5}) << "held values are in the mean alone";
  EXPECT_EQ(picture.curves[0].points.at(3).count, 2u);
  EXPECT_EQ(picture.curves[0].points.at(1).rows, (std::vector<double>{2, 4}));
}

TEST(ComposePicture, BandsStandForRunsThatSeedsDoNotTellApart) {
  const Picture mixed = picture_of("step,seed,loss\n1,1,2\n1,1,4\n1,2,3\n2,2,3\n");
  EXPECT_TRUE(mixed.bands);
  EXPECT_FALSE(mixed.seeds);
  EXPECT_TRUE(mixed.curves[0].seeds.empty());
  EXPECT_EQ(mixed.caption, "mean of 3 rows; bands from lowest to highest");
  // One such curve is enough: either all curves have their seeds or none.
  const Picture one =
      picture_of("step,mixer,seed,loss\n1,kda,1,2\n1,kda,1,4\n1,gdn,1,3\n1,gdn,2,5\n2,gdn,1,3\n2,gdn,2,5\n");
  EXPECT_FALSE(one.seeds);
  EXPECT_EQ(one.caption, "mean of 2 seeds; bands from lowest to highest");
}

TEST(ComposePicture, UpTo30SeedsAreDrawn) {
  for (const bool bars : {false, true}) {
    std::string csv = bars ? "mixer,seed,loss\n" : "step,seed,loss\n";
    const std::string x = bars ? "kda" : "1";
    for (int i = 1; i <= 30; ++i) csv += x + "," + std::to_string(i) + ",1\n";
    PlotOptions options;
    options.x = bars ? "mixer" : "step";
    const Picture few = picture_of(csv, options);
    EXPECT_TRUE(few.seeds);
    EXPECT_EQ(few.caption, bars ? "mean of 30 seeds; dots: each" : "mean of 30 seeds; thin lines: each");
    const Picture many = picture_of(csv + x + ",31,1\n", options);
    EXPECT_FALSE(many.seeds);
    EXPECT_EQ(many.caption, bars ? "mean of 31 seeds; whiskers from lowest to highest"
                                 : "mean of 31 seeds; bands from lowest to highest");
  }
}

TEST(ComposePicture, BarsHaveDotsIfTheirRowsAreSeeds) {
  const Picture dots = picture_of("mixer,seed,acc_seq\na,1,0.5\nb,1,1\na,2,0.1\nb,2,0.9\n");
  EXPECT_TRUE(dots.seeds);
  EXPECT_EQ(dots.caption, "mean of 2 seeds; dots: each");
  EXPECT_EQ(dots.curves[0].points.at(0).rows, (std::vector<double>{0.5, 0.1}));
  EXPECT_EQ(dots.curves[0].points.at(1).rows, (std::vector<double>{1, 0.9}));
  const Picture whiskers = picture_of("mixer,acc_seq\na,0.5\nb,1\na,0.1\n");
  EXPECT_FALSE(whiskers.seeds);
  EXPECT_EQ(whiskers.caption, "mean of 2 rows; whiskers from lowest to highest");
}

TEST(ComposePicture, RepeatsWithoutSeedsAreRows) {
  EXPECT_EQ(picture_of("step,loss\n1,2\n1,4\n").caption, "mean of 2 rows; bands from lowest to highest");
  const Picture single = picture_of("step,seed,loss\n1,1,2\n2,1,4\n");
  EXPECT_FALSE(single.bands);
  EXPECT_FALSE(single.seeds);
  EXPECT_EQ(single.caption, "");
}

TEST(ComposePicture, CurvesOfNumbersAreInTheirOrderUnderATitle) {
  const Picture picture = picture_of("step,lr,loss\n1,0.1,1\n1,0.02,2\n1,0.003,3\n");
  EXPECT_EQ(names_of(picture), (Texts{"0.003", "0.02", "0.1"}));
  EXPECT_EQ(picture.key_title, "learning rate");
}

TEST(ComposePicture, NumbersCarryTheirNamesBesideOtherParts) {
  const Picture picture =
      picture_of("step,mixer,train.lr,loss\n1,[kda],0.1,1\n1,[kda],0.02,2\n1,[gdn],0.1,3\n1,[gdn],0.02,3\n");
  EXPECT_EQ(names_of(picture), (Texts{"KDA, lr 0.02", "KDA, lr 0.1", "GDN, lr 0.02", "GDN, lr 0.1"}));
  EXPECT_EQ(picture.key_title, "");
}

TEST(ComposePicture, RunsThatEndedStayAtTheirLastValue) {
  const Picture picture = picture_of("step,seed,acc_seq\n1,1,0.5\n2,1,1\n1,2,0\n2,2,0\n3,2,0.2\n");
  const PlotPoint& last = picture.curves[0].points.at(3);
  EXPECT_EQ(last.count, 2u);
  EXPECT_DOUBLE_EQ(last.mean(), 0.6);
  EXPECT_CONTAINS(picture.caption, "stay at their last value");
  // Not where a seed stands for several runs, nor along another axis than the steps.
  const Picture mixed = picture_of("step,seed,acc_seq\n1,1,0.5\n1,1,0.6\n1,2,0\n3,2,0.2\n");
  EXPECT_EQ(mixed.curves[0].points.at(3).count, 1u);
  const Picture lengths = picture_of("length,seed,acc_seq\n1,1,0.5\n1,2,0\n3,2,0.2\n");
  EXPECT_EQ(lengths.curves[0].points.at(3).count, 1u);
}

TEST(ComposePicture, SharesAreInPercent) {
  const Picture lines = picture_of("step,acc_seq\n1,0.25\n2,0.5\n");
  EXPECT_TRUE(lines.y.percent);
  EXPECT_DOUBLE_EQ(lines.y.scale, 100);
  EXPECT_LT(lines.y.low, 0);
  EXPECT_GT(lines.y.high, 1);
  EXPECT_DOUBLE_EQ(picture_of("mixer,acc_seq\na,0.25\nb,0.5\n").y.low, 0) << "bars begin at zero";
  EXPECT_FALSE(picture_of("step,acc_seq\n1,25\n2,50\n").y.percent) << "these are no shares";
  EXPECT_FALSE(picture_of("step,loss\n1,0.25\n2,0.5\n").y.percent);
}

TEST(ComposePicture, ValuesThatGrowByFactorsStandOnALogarithmicAxis) {
  const Picture lengths = picture_of(along_x({"64", "128", "256", "512"}));
  EXPECT_TRUE(lengths.x.log);
  EXPECT_EQ(tics_of(lengths.x), (Texts{"64", "128", "256", "512"}));
  EXPECT_EQ(tics_of(picture_of(along_x({"1e-5", "1e-4", "1e-3"})).x), (Texts{"1e-5", "0.0001", "0.001"}));
  EXPECT_FALSE(picture_of(along_x({"1", "2", "3", "4"})).x.log) << "equal steps";
  EXPECT_FALSE(picture_of(along_x({"10", "12", "100"})).x.log) << "a factor of less than 1.5";
  EXPECT_FALSE(picture_of(along_x({"1", "2", "4"})).x.log) << "a range of less than 8";
  EXPECT_FALSE(picture_of(along_x({"0", "10", "100"})).x.log) << "zero has no logarithm";
  PlotOptions options;
  options.log_x = true;
  EXPECT_TRUE(picture_of(along_x({"1", "2", "3"}), options).x.log);
}

TEST(ComposePicture, LargeNumbersAreInThousandsOrMillions) {
  const auto axis = [](const std::string& largest) {
    return picture_of("step,parameters\n1,1\n2," + largest + "\n").y;
  };
  EXPECT_DOUBLE_EQ(axis("90000").scale, 1);
  EXPECT_DOUBLE_EQ(axis("200000").scale, 1e-3);
  EXPECT_CONTAINS(axis("200000").label, "(thousands)");
  EXPECT_DOUBLE_EQ(axis("20000000").scale, 1e-6);
  EXPECT_CONTAINS(axis("20000000").label, "(millions)");
}

TEST(ComposePicture, TheAxesHoldAllDataWithRoom) {
  const Picture picture = picture_of("step,seed,loss\n10,1,5\n20,1,6\n20,2,9\n");
  EXPECT_LT(picture.x.low, 10);
  EXPECT_GT(picture.x.high, 20);
  EXPECT_LT(picture.y.low, 5);
  EXPECT_GT(picture.y.low, 4);
  EXPECT_GT(picture.y.high, 9) << "the end of the band, not the mean";
  EXPECT_DOUBLE_EQ(picture_of("step,loss\n1,1\n2,10\n").y.low, 0) << "from zero where that is near";
  const Picture flat = picture_of("step,loss\n1,5\n1,5\n");
  EXPECT_LT(flat.x.low, flat.x.high);
  EXPECT_LT(flat.y.low, flat.y.high);
}

TEST(ComposePicture, TextsAlongXAreBars) {
  const Picture picture = picture_of("mixer,seconds\nkda,3\nmamba2,4\n");
  EXPECT_TRUE(picture.bars);
  EXPECT_EQ(tics_of(picture.x), (Texts{"KDA", "Mamba-2"}));
  EXPECT_DOUBLE_EQ(picture.curves[0].points.at(1).mean(), 4);
  EXPECT_DOUBLE_EQ(picture.y.low, 0) << "the length of a bar is its value";
  PlotOptions options;
  options.bars = true;
  options.x = "length";
  EXPECT_EQ(tics_of(picture_of("length,seconds\n64,1\n8,2\n", options).x), (Texts{"8", "64"}));
  options.log_x = true;
  EXPECT_FALSE(picture_of("length,seconds\n64,1\n8,2\n", options).x.log) << "names have no logarithm";
}

TEST(ComposePicture, FitsAPowerLawThroughTheMeans) {
  PlotOptions options;
  options.x = "n";
  options.fit = "power";
  const Picture picture = picture_of("n,seed,loss\n1,1,1\n1,2,3\n10,1,15\n10,2,25\n100,1,200\n100,2,200\n", options);
  const PlotCurve& curve = picture.curves[0];
  ASSERT_TRUE(curve.fit);
  EXPECT_NEAR(curve.fit->factor, 2, 1e-9);
  EXPECT_NEAR(curve.fit->exponent, 1, 1e-9);
  EXPECT_CONTAINS(curve.name, "2 x^1.0000");
  EXPECT_EQ(picture.caption, "mean of 2 seeds; dots: each");
  EXPECT_TRUE(picture.x.log);
  EXPECT_TRUE(picture.y.log);
  EXPECT_FALSE(picture_of("n,loss\n1,1\n2,2\n").curves[0].fit);
}

TEST(ComposePicture, LabelsAreThoseThatWereGiven) {
  PlotOptions options;
  options.x_label = "Zeit";
  options.y_label = "Höhe";
  const Picture picture = picture_of("step,loss\n1,2\n", options);
  EXPECT_EQ(picture.x.label, "Zeit");
  EXPECT_EQ(picture.y.label, "Höhe");
}

TEST(ComposePicture, NamesTheCellThatCannotBeDrawn) {
  const auto failure = [](const std::string& csv, const PlotOptions& options = {}) {
    return failure_of([&] { picture_of(csv, options); });
  };
  for (const std::string cell : {"fast", "nan", "inf", "-inf"}) {
    EXPECT_CONTAINS(failure("step,split,loss\n1,train,1\n1,test,2\n2,test," + cell + "\n"),
                    "a.csv, row 3: loss = '" + cell + "'");
  }
  EXPECT_CONTAINS(failure("step,loss\n1,1\nend,2\n"), "row 2: step = 'end'");
  PlotOptions options;
  options.log_y = true;
  EXPECT_CONTAINS(failure("step,loss\n1,1\n2,0\n", options), "row 2: loss = 0");
}

std::vector<double> xs_of(const PlotCurve& curve) {
  std::vector<double> xs;
  for (const auto& [x, point] : curve.points) xs.push_back(x);
  return xs;
}

TEST(ComposePicture, AnEmptyCellIsNoPoint) {
  const std::string alternating = "step,train_loss,loss\n1,5,\n2,,3\n3,4,\n4,,2\n,,1\n";
  EXPECT_EQ(xs_of(picture_of(alternating).curves[0]), (std::vector<double>{2, 4}));
  PlotOptions train;
  train.y = "train_loss";
  EXPECT_EQ(xs_of(picture_of(alternating, train).curves[0]), (std::vector<double>{1, 3}));
  PlotOptions by_difficulty;
  by_difficulty.x = "difficulty";
  by_difficulty.y = "loss";
  const Picture bars = picture_of(
      "variant,difficulty,loss,acc_seq\n,,9,0.5\n,all,3,0.5\n,easy,2,\nlong,all,4,\nlong,easy,5,\n", by_difficulty);
  EXPECT_TRUE(bars.bars) << "the first cell that is not empty decides";
  EXPECT_EQ(tics_of(bars.x), (Texts{"all", "easy"}));
  EXPECT_EQ(names_of(bars), (Texts{"no variant", "long"}));
}

TEST(ComposePicture, FilesMayHaveOtherColumns) {
  const Folder folder;
  PlotOptions options;
  for (const std::string run : {"first", "second"}) {
    std::filesystem::create_directory(folder / run);
    options.files.push_back(folder / (run + "/a.csv"));
  }
  write_file(options.files[0], "step,loss\n1,2\n2,1\n");
  write_file(options.files[1], "step,acc_seq,loss\n1,0.5,4\n2,1,3\n");
  options.y = "loss";
  const auto drawn = [&] {
    const PlotData data = read_plot_data(options);
    return names_of(compose_picture(data, choose_columns(data, options), options));
  };
  EXPECT_EQ(drawn(), (Texts{"first", "second"}));
  options.y = "acc_seq";
  EXPECT_EQ(drawn(), Texts{""}) << "the first file has no points";
}

TEST(ComposePicture, KeepsOfManyPointsThoseThatShow) {
  constexpr int kPoints = 100'000;
  std::string csv = "step,seed,loss\n";
  for (int i = 0; i < kPoints; ++i) {
    const int y = i == 33'333 ? 90 : i == 66'666 ? -40 : i % 7;
    csv += fmt::format("{},1,{}\n{},2,{}\n", i, y, i, y + 2);
  }
  const Picture picture = picture_of(csv);
  const PlotCurve& curve = picture.curves[0];
  EXPECT_LE(curve.points.size(), 4u * 1200);
  EXPECT_GE(curve.points.size(), 2u * 1200);
  EXPECT_EQ(curve.points.count(0), 1u);
  EXPECT_EQ(curve.points.count(kPoints - 1), 1u);
  EXPECT_DOUBLE_EQ(curve.points.at(33'333).mean(), 91);
  EXPECT_DOUBLE_EQ(curve.points.at(66'666).mean(), -39);
  for (const auto& [x, point] : curve.points) {
    EXPECT_LE(point.low, 0) << "the band is that of the column of pixels";
    EXPECT_GE(point.high, 8);
  }
  ASSERT_EQ(curve.seeds.size(), 2u);
  EXPECT_LE(curve.seeds[1].size(), 4u * 1200);
  EXPECT_EQ(std::count(curve.seeds[1].begin(), curve.seeds[1].end(), std::pair(33'333.0, 92.0)), 1);
}

TEST(ComposePicture, ManyCurvesAreRefusedWithoutDelay) {
  std::string csv = "step,note,loss\n";
  for (int i = 0; i < 100'000; ++i) csv += fmt::format("{},note{},1\n", i, i);
  EXPECT_CONTAINS(message_of<UsageError>([&] { picture_of(csv); }), "100000 curves");
}

TEST(ComposePicture, RefusesWhatNobodyCouldRead) {
  std::string curves = "step,mixer,loss\n", names = "name,loss\n";
  for (int i = 0; i < 24; ++i) curves += "1,m" + std::to_string(i) + ",1\n";
  for (int i = 0; i < 20; ++i) names += "n" + std::to_string(i) + ",1\n";
  EXPECT_EQ(picture_of(curves).curves.size(), 24u);
  EXPECT_EQ(tics_of(picture_of(names).x).size(), 20u);
  EXPECT_CONTAINS(message_of<UsageError>([&] { picture_of(curves + "1,one more,1\n"); }), "25 curves");
  EXPECT_CONTAINS(message_of<UsageError>([&] { picture_of(names + "one more,1\n"); }), "21 different");
  PlotOptions options;
  options.fit = "power";
  options.x = "n";
  EXPECT_CONTAINS(message_of<UsageError>([&] { picture_of("n,loss\n1,1\n1,2\n", options); }), "one point");
  EXPECT_CONTAINS(message_of<UsageError>([&] { picture_of("n,loss\na,1\nb,2\n", options); }), "fit = power");
}

}  // namespace
}  // namespace klab
