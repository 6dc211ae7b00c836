// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/study.h"

#include <gtest/gtest.h>

#include "core/base/file.h"
#include "core/base/support.h"

namespace klab {
namespace {

using Values = std::vector<double>;

TEST(Verdict, HoldsWhereTheWholeIntervalIsAboveZero) {
  EXPECT_EQ(verdict({0.9, 0.91, 0.92}, {0.5, 0.51, 0.52}), "held");
  EXPECT_EQ(verdict({1, 1}, {0, 0}), "held") << "with zero variance the difference is certain";
}

TEST(Verdict, IsReversedWhereTheWholeIntervalIsBelowZero) {
  EXPECT_EQ(verdict({0.5, 0.51, 0.52}, {0.9, 0.91, 0.92}), "reversed");
  EXPECT_EQ(verdict({0, 0}, {1, 1}), "reversed");
}

TEST(Verdict, IsNotDecidedWhereTheIntervalHoldsZero) {
  EXPECT_EQ(verdict({0.1, 0.9, 0.5}, {0.2, 0.4, 0.6}), "not decided");
  EXPECT_EQ(verdict({0.2, 0.4, 0.6}, {0.1, 0.9, 0.5}), "not decided");
  EXPECT_EQ(verdict({1, 1, 1}, {1, 1, 1}), "not decided") << "equal values with zero variance";
}

// Two groups of variance 1 have an interval of 2.7764 sqrt(2/3) = 2.26696 on either side of the difference.
TEST(Verdict, TurnsAtTheEndOfTheInterval) {
  const auto moved = [](double by) { return Values{1 + by, 2 + by, 3 + by}; };
  EXPECT_EQ(verdict(moved(2.268), {1, 2, 3}), "held");
  EXPECT_EQ(verdict(moved(2.266), {1, 2, 3}), "not decided");
  EXPECT_EQ(verdict(moved(-2.266), {1, 2, 3}), "not decided");
  EXPECT_EQ(verdict(moved(-2.268), {1, 2, 3}), "reversed");
}

TEST(Verdict, NeedsTwoValuesOnEachSide) {
  EXPECT_EQ(verdict({}, {}), "not measured");
  EXPECT_EQ(verdict({1}, {0, 0}), "not measured");
  EXPECT_EQ(verdict({1, 1}, {0}), "not measured");
}

TEST(Percent, ShowsTheMeanAndItsInterval) {
  EXPECT_EQ(percent({}), "-");
  EXPECT_EQ(percent({0.984}), "98.4");
  EXPECT_EQ(percent({0.5, 0.5}), "50.0 ± 0.0");
  EXPECT_EQ(percent({0.4, 0.6}), "50.0 ± 127.1");  // 12.706 times a standard error of 10 points
  EXPECT_EQ(percent({0.98, 0.985, 0.99}), "98.5 ± 1.2");
}

TEST(Difference, ShowsPointsWithTheirSign) {
  EXPECT_EQ(difference({1}, {0, 0}), "-");
  EXPECT_EQ(difference({1, 1}, {0}), "-");
  EXPECT_EQ(difference({0.75, 0.75}, {0.5, 0.5}), "+25.0 [+25.0, +25.0]");
  EXPECT_EQ(difference({0.1, 0.2, 0.3}, {0.4, 0.5, 0.6}), "-30.0 [-52.7, -7.3]");  // 22.7 on either side
}

TEST(WritePage, JoinsTheLines) {
  const Folder folder;
  ReproduceOptions options;
  options.out = folder.path();
  write_page(options, {"# Title", "", "a line"});
  EXPECT_EQ(read_file(folder / "page.md"), "# Title\n\na line\n");
}

}  // namespace
}  // namespace klab
