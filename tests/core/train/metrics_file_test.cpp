// SPDX-License-Identifier: Apache-2.0
#include "core/train/metrics_file.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "core/base/file.h"
#include "core/base/support.h"

namespace klab {
namespace {

const std::vector<std::string> kMetricColumns = {"step", "split", "loss"};

// The file after it was opened to go on after `step`, and one row more.
std::string resumed(const Folder& folder, const std::string& before, int64_t step) {
  const RunFolder run{folder.path()};
  write_file(run.metrics(), before);
  open_metrics(run, {"other"}, kMetricColumns, /*resume=*/true, step)->row({"9", "train", "0.5"});
  return read_file(run.metrics());
}

TEST(MetricsFile, ANewRunReplacesTheFile) {
  const Folder folder;
  const RunFolder run{folder.path()};
  write_file(run.metrics(), "# old\nstep,split,loss\n1,train,1\n");
  open_metrics(run, {"new"}, kMetricColumns, /*resume=*/false, 0);
  EXPECT_EQ(read_file(run.metrics()), "# new\nstep,split,loss\n");
}

TEST(MetricsFile, RowsThatWillBeRepeatedAreRemoved) {
  const Folder folder;
  const std::string kept = "# old\n# two\nstep,split,loss\n1,train,1\n1,validation,1\n2,train,1\n";
  const std::string repeated = "3,train,1\n3,validation,1\n1,test,1\n3,test,1\n";
  EXPECT_EQ(resumed(folder, kept + repeated, 2), kept + "9,train,0.5\n");
  EXPECT_EQ(resumed(folder, kept + repeated + "4,tra", 2), kept + "9,train,0.5\n") << "an incomplete row";
  EXPECT_EQ(resumed(folder, kept, 2), kept + "9,train,0.5\n");
  EXPECT_EQ(resumed(folder, kept + repeated, 0), "# old\n# two\nstep,split,loss\n9,train,0.5\n");
  EXPECT_EQ(resumed(folder, "step,split,loss\n", 0), "step,split,loss\n9,train,0.5\n");
}

TEST(MetricsFile, ColumnsOfALaterVersionAreAdded) {
  const Folder folder;
  EXPECT_EQ(resumed(folder, "# old\nstep,split\n1,train\n2,train\n1,test\n2,t", 1),
            "# old\nstep,split,loss\n1,train,\n9,train,0.5\n");
}

TEST(MetricsFile, WhatIsNoMetricsFileIsNamed) {
  const Folder folder;
  const auto refusal = [&](const std::string& text) {
    return message_of<UsageError>([&] { resumed(folder, text, 1); });
  };
  EXPECT_CONTAINS(refusal("step,split,loss\nx1,train,1\n"), "metrics.csv: 'x1' in column step");
  EXPECT_CONTAINS(refusal("step,split,loss\n1\n"), "metrics.csv: a row of 1 cells");
  EXPECT_CONTAINS(refusal("# only this\n"), "no header row");
  EXPECT_CONTAINS(refusal("loss,split\n1,train\n"), "there is no column 'step'");
}

// Reading two million rows takes seconds and gigabytes.
TEST(MetricsFile, ALongRunGoesOnAtOnce) {
  const Folder folder;
  const RunFolder run{folder.path()};
  std::string text = "step,split,loss\n";
  for (int i = 1; i <= 1'000'000; ++i) {
    const std::string step = std::to_string(i);
    text += step + ",train,1.234567\n" + step + ",validation,1.234567\n";
  }
  write_file(run.metrics(), text);
  const auto begin = std::chrono::steady_clock::now();
  open_metrics(run, {}, kMetricColumns, /*resume=*/true, 999'990);
  const auto taken = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(taken, std::chrono::milliseconds(200));
  EXPECT_TRUE(read_file(run.metrics()).ends_with("\n999990,validation,1.234567\n"));
}

}  // namespace
}  // namespace klab
