// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/halving.h"

#include <gtest/gtest.h>

#include <random>

namespace klab {
namespace {

// Runs of the groups "a" or "b" in the order of the plan.
Plan plan_with(const std::string& groups, const std::string& metric = "acc_seq", int64_t factor = 3) {
  Plan plan;
  for (const char group : groups) {
    PlannedRun& run = plan.runs.emplace_back();
    run.group = group;
  }
  plan.halving = Halving{metric, factor, {10, 20}, {}};
  return plan;
}

std::vector<Reports> reports_of(const std::vector<std::vector<double>>& values) {
  std::vector<Reports> all;
  for (const auto& one : values) all.push_back({one, false});
  return all;
}

TEST(Halving, TheFirstRunGoesOnWhateverItReports) {
  const Plan plan = plan_with("aaa");
  EXPECT_EQ(judge(plan, reports_of({{0.0}, {0.9}, {1.0}}), 0, 0), Promotion::go_on);
}

TEST(Halving, OneOfThreeGoesOnRoundedUp) {
  const Plan plan = plan_with("aaaaaaa");
  const auto reports = reports_of({{0.5}, {0.4}, {0.45}, {0.49}, {0.48}, {0.47}, {0.485}});
  EXPECT_EQ(judge(plan, reports, 1, 0), Promotion::stop);   // the second of two, one is promoted
  EXPECT_EQ(judge(plan, reports, 2, 0), Promotion::stop);   // the second of three, one is promoted
  EXPECT_EQ(judge(plan, reports, 3, 0), Promotion::go_on);  // the second of four, two are promoted
  EXPECT_EQ(judge(plan, reports, 4, 0), Promotion::stop);   // the third of five, two are promoted
  EXPECT_EQ(judge(plan, reports, 5, 0), Promotion::stop);   // the fourth of six, two are promoted
  EXPECT_EQ(judge(plan, reports, 6, 0), Promotion::go_on);  // the third of seven, three are promoted
}

TEST(Halving, AnotherFactorKeepsAnotherShare) {
  const auto reports = reports_of({{0.5}, {0.4}, {0.45}});
  EXPECT_EQ(judge(plan_with("aaa", "acc_seq", 2), reports, 2, 0),
            Promotion::go_on);  // the second of three, two are promoted
  EXPECT_EQ(judge(plan_with("aaa", "acc_seq", 3), reports, 2, 0), Promotion::stop);
}

TEST(Halving, EqualRunsAreNotAhead) {
  const Plan plan = plan_with("aaaa");
  const auto reports = reports_of({{0.5}, {0.5}, {0.5}, {0.5}});
  for (size_t run = 0; run < 4; ++run) EXPECT_EQ(judge(plan, reports, run, 0), Promotion::go_on) << run;
}

TEST(Halving, OfALossTheSmallerIsAhead) {
  const Plan plan = plan_with("aaa", "loss");
  const auto reports = reports_of({{0.5}, {0.4}, {0.45}});
  EXPECT_EQ(judge(plan, reports, 1, 0), Promotion::go_on);
  EXPECT_EQ(judge(plan, reports, 2, 0), Promotion::stop);
}

TEST(Halving, RunsBehindInThePlanDoNotCount) {
  const Plan plan = plan_with("aaa");
  EXPECT_EQ(judge(plan, reports_of({{0.1}, {0.9}, {0.9}}), 0, 0), Promotion::go_on);
  EXPECT_EQ(judge(plan, reports_of({{0.1}, {0.2}, {}}), 1, 0), Promotion::go_on) << "nor does it wait for them";
}

TEST(Halving, WaitsForEarlierRunsThatMayStillReport) {
  const Plan plan = plan_with("aaa");
  auto reports = reports_of({{0.1}, {}, {0.9}});
  EXPECT_EQ(judge(plan, reports, 2, 0), Promotion::wait);
  reports[1].values = {0.2};
  EXPECT_EQ(judge(plan, reports, 2, 0), Promotion::go_on);
}

TEST(Halving, ARunThatEndedWithoutAReportDoesNotCount) {
  const Plan plan = plan_with("aaaa");
  auto reports = reports_of({{0.5}, {}, {0.1}, {0.4}});
  reports[1].over = true;
  EXPECT_EQ(judge(plan, reports, 2, 0), Promotion::stop);
  EXPECT_EQ(judge(plan, reports, 3, 0), Promotion::stop) << "it is the second of three, not of four";
}

TEST(Halving, GroupsAreJudgedApart) {
  const Plan plan = plan_with("abab");
  auto reports = reports_of({{0.9}, {}, {0.95}, {0.1}});
  EXPECT_EQ(judge(plan, reports, 2, 0), Promotion::go_on) << "does not wait for a run of another group";
  reports[1].values = {0.05};
  EXPECT_EQ(judge(plan, reports, 3, 0), Promotion::go_on) << "nor is that run ahead";
}

TEST(Halving, LaterStepsCountOnlyRunsThatGotThere) {
  const Plan plan = plan_with("aaaa");
  auto reports = reports_of({{0.9, 0.2}, {0.1}, {0.95, 0.8}, {0.92, 0.7}});
  EXPECT_EQ(judge(plan, reports, 2, 1), Promotion::wait) << "run 1 may still report";
  reports[1].over = true;
  EXPECT_EQ(judge(plan, reports, 2, 1), Promotion::go_on);
  EXPECT_EQ(judge(plan, reports, 3, 1), Promotion::stop) << "the second of three";
}

// For any number and speed of workers: each step of a run takes a random time, and a run is judged as soon as possible.
TEST(Halving, TheOutcomeDoesNotDependOnTheOrderOfCompletion) {
  constexpr size_t kRuns = 30, kRungs = 2;
  std::mt19937 random(1);
  std::string groups;
  std::vector<std::vector<double>> results(kRuns);
  for (size_t i = 0; i < kRuns; ++i) {
    groups += i % 4 == 0 ? 'b' : 'a';
    for (size_t rung = 0; rung <= kRungs; ++rung) results[i].push_back(static_cast<double>(random() % 10));
  }
  const Plan plan = plan_with(groups);
  const auto outcome = [&](unsigned seed) {
    std::mt19937 schedule(seed);
    std::vector<Reports> reports(kRuns);
    for (int event = 0; event < 100000; ++event) {
      const size_t run = schedule() % kRuns;
      Reports& own = reports[run];
      if (own.over) continue;
      if (own.values.empty()) {
        own.values.push_back(results[run][0]);
        continue;
      }
      const Promotion verdict = judge(plan, reports, run, own.values.size() - 1);
      if (verdict == Promotion::wait) continue;
      if (verdict == Promotion::stop || own.values.size() == kRungs) {
        own.over = true;
      } else {
        own.values.push_back(results[run][own.values.size()]);
      }
    }
    std::vector<size_t> reached;
    for (const Reports& one : reports) {
      EXPECT_TRUE(one.over);
      reached.push_back(one.values.size());
    }
    return reached;
  };
  const std::vector<size_t> first = outcome(1);
  EXPECT_GT(std::count(first.begin(), first.end(), 1u), 5) << "some runs stop at the first step";
  EXPECT_GT(std::count(first.begin(), first.end(), 2u), 5) << "and some do not";
  for (unsigned seed = 2; seed < 20; ++seed) EXPECT_EQ(outcome(seed), first) << seed;
}

}  // namespace
}  // namespace klab
