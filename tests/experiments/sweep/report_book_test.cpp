// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/report_book.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "core/base/support.h"

namespace klab {
namespace {

// Runs in the groups "a" and "b", with rungs at steps 10 and 20.
class ReportBookTest : public testing::Test {
 protected:
  void plan_runs(const std::string& groups) {
    for (const char group : groups) {
      PlannedRun& run = plan_.runs.emplace_back();
      run.id = std::to_string(plan_.runs.size());
      run.group = group;
      std::filesystem::create_directory(sweep_.run(run.id).path);
    }
    plan_.halving = Halving{"loss", 2, {10, 20}, {}};
  }

  // A run that has been evaluated every five steps, with these losses.
  void report(size_t run, const std::vector<double>& losses, RunState state = RunState::running) {
    const RunFolder folder = sweep_.run(plan_.runs[run].id);
    std::ofstream metrics(folder.metrics() + ".new");
    metrics << "step,split,loss\n";
    for (size_t i = 0; i < losses.size(); ++i) {
      metrics << 5 * (i + 1) << ",train,9\n" << 5 * (i + 1) << ",validation," << losses[i] << "\n";
    }
    metrics.close();
    std::filesystem::rename(folder.metrics() + ".new", folder.metrics());
    RunRecord record;
    record.state = state;
    write_record(folder, record);
  }

  Promotion verdict(ReportBook& book, size_t run, size_t rung) const {
    return judge(plan_, book.for_judging(run, rung), run, rung);
  }

  const Folder folder_;
  const SweepFolder sweep_{folder_.path()};
  Plan plan_;
};

TEST_F(ReportBookTest, HasTheMetricAtTheRungs) {
  plan_runs("a");
  ReportBook book(sweep_, plan_);
  EXPECT_TRUE(book.for_judging(0, 0)[0].values.empty()) << "it has not begun";
  report(0, {5});
  EXPECT_TRUE(book.for_judging(0, 0)[0].values.empty());
  report(0, {5, 4, 3});
  EXPECT_EQ(book.for_judging(0, 0)[0].values, std::vector<double>{4});
  report(0, {5, 4, 3, 2, 1});
  EXPECT_EQ(book.for_judging(0, 1)[0].values, (std::vector<double>{4, 2}));
  EXPECT_FALSE(book.for_judging(0, 1)[0].over);
}

TEST_F(ReportBookTest, ARunWaitsForEarlierRunsOfItsGroup) {
  plan_runs("abaa");
  ReportBook book(sweep_, plan_);
  report(3, {9, 1});
  EXPECT_EQ(verdict(book, 3, 0), Promotion::wait) << "for the first run";
  report(0, {9, 2});
  EXPECT_EQ(verdict(book, 3, 0), Promotion::wait) << "for the third run; the second is of another group";
  report(2, {9}, RunState::diverged);
  EXPECT_EQ(verdict(book, 3, 0), Promotion::go_on) << "the better of two";
  EXPECT_EQ(verdict(book, 0, 0), Promotion::go_on) << "the first run waits for none";
  report(3, {9, 1, 1, 1});
  EXPECT_EQ(verdict(book, 3, 1), Promotion::wait) << "at the next rung, for the first run";
  report(0, {9, 2, 2, 0.5});
  EXPECT_EQ(verdict(book, 3, 1), Promotion::stop) << "the second of two";
}

// Every look at every run that waits would read the files of all runs before it.
TEST_F(ReportBookTest, ManyRunsThatWaitAreLookedAtInAMoment) {
  plan_runs(std::string(1000, 'a'));
  for (size_t run = 1; run < plan_.runs.size(); ++run) report(run, {9, 1}, RunState::parked);
  ReportBook book(sweep_, plan_);
  const auto begin = std::chrono::steady_clock::now();
  for (int look = 0; look < 3; ++look) {
    for (size_t run = 1; run < plan_.runs.size(); ++run) ASSERT_EQ(verdict(book, run, 0), Promotion::wait);
  }
  report(0, {9, 1});
  for (size_t run = 1; run < plan_.runs.size(); ++run) ASSERT_EQ(verdict(book, run, 0), Promotion::go_on);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
}

}  // namespace
}  // namespace klab
