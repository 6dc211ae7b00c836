// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/survival.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/base/error.h"

namespace klab {
namespace {

using Times = std::vector<Time>;

Times reached(const std::vector<double>& values) {
  Times times;
  for (const double value : values) times.push_back({value, true});
  return times;
}

// Weeks of remission of 21 pairs of patients (Freireich et al. 1963), the textbook example.
Times six_mp() {
  Times times = reached({6, 6, 6, 7, 10, 13, 16, 22, 23});
  for (const double value : {6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35}) times.push_back({value, false});
  return times;
}
Times placebo() { return reached({1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23}); }

// lifelines 0.30.3: KaplanMeierFitter().survival_function_; the same numbers are in most textbooks.
TEST(KaplanMeier, HasTheTextbooksNumbers) {
  const std::vector<SurvivalStep> steps = kaplan_meier(six_mp());
  const std::vector<double> times{6, 7, 10, 13, 16, 22, 23};
  const std::vector<int64_t> at_risk{21, 17, 15, 12, 11, 7, 6}, events{3, 1, 1, 1, 1, 1, 1};
  const std::vector<double> survival{0.857143, 0.806723, 0.752941, 0.690196, 0.627451, 0.537815, 0.448179};
  ASSERT_EQ(steps.size(), times.size());
  for (size_t i = 0; i < steps.size(); ++i) {
    EXPECT_EQ(steps[i].time, times[i]);
    EXPECT_EQ(steps[i].at_risk, at_risk[i]);
    EXPECT_EQ(steps[i].reached, events[i]);
    EXPECT_NEAR(steps[i].survival, survival[i], 1e-6);
    EXPECT_TRUE(steps[i].interval.contains(steps[i].survival));
  }
}

TEST(KaplanMeier, HasClopperAndPearsonsIntervalsWithoutCensoring) {
  const std::vector<SurvivalStep> steps = kaplan_meier(reached({3, 1, 4, 1, 5, 9, 2}));
  ASSERT_EQ(steps.size(), 6U);
  int64_t left = 7;
  for (const SurvivalStep& step : steps) {
    left -= step.reached;
    const Interval expected = clopper_pearson({left, 7});
    EXPECT_NEAR(step.survival, static_cast<double>(left) / 7, 1e-12);
    EXPECT_NEAR(step.interval.low, expected.low, 1e-9);
    EXPECT_NEAR(step.interval.high, expected.high, 1e-9);
  }
}

TEST(KaplanMeier, CensoringWidensTheInterval) {
  const Interval all = kaplan_meier(reached({1, 2, 3, 4, 5, 6})).back().interval;
  const Interval some = kaplan_meier({{0.5, false}, {0.6, false}, {3, true}, {7, false}}).back().interval;
  EXPECT_EQ(all.low, 0);
  EXPECT_GT(some.high - some.low, 0.7);
}

// After the only event at 1 of three runs, one of them censored there too: the upper bound is a draw of Beta(3, 1), the
// lower one times Beta(1, 1); its moments are 3/4 x 1/2 and 3/5 x 1/3.
TEST(KaplanMeier, MatchesTheMomentsOfTheProduct) {
  const SurvivalStep step = kaplan_meier({{1, true}, {1, false}, {2, false}}).front();
  EXPECT_NEAR(step.interval.high, std::cbrt(0.975), 1e-9);
  EXPECT_NEAR(step.survival, 2.0 / 3, 1e-12);
  // scipy 1.17: beta(a, b).ppf(0.025) for a = 3/8 s, b = 5/8 s, s = (3/8 - 1/5) / (1/5 - 9/64)
  EXPECT_NEAR(step.interval.low, 0.019786968188082676, 1e-9);
}

TEST(MedianTime, IsTheFirstTimeThatHalfReach) {
  EXPECT_EQ(median_time(six_mp()), 23);
  EXPECT_EQ(median_time(placebo()), 8);
  EXPECT_EQ(median_time(reached({1, 2, 3, 4})), 2);
  EXPECT_EQ(median_time({{5, true}, {9, false}, {9, false}}), std::nullopt);
  EXPECT_EQ(median_time({}), std::nullopt);
}

TEST(RestrictedTimes, EndAtTheFirstCensoredTime) {
  const RestrictedTimes some = restricted_times({{3, true}, {10, false}}, {{4, true}, {12, false}, {11, true}});
  EXPECT_EQ(some.horizon, 10);
  EXPECT_EQ(some.x, (std::vector<double>{3, 10}));
  EXPECT_EQ(some.y, (std::vector<double>{4, 10, 10}));
  EXPECT_EQ(restricted_times({{12, true}}, {{10, false}}).x, (std::vector<double>{10}));
  EXPECT_EQ(restricted_times(reached({3, 7}), reached({5})).horizon, 7);
}

// lifelines 0.30.3 and by hand: 9 events among 19.2505 expected ones.
TEST(LogRankScores, SumToExpectedLessObservedEvents) {
  const LogRankScores scores = log_rank_scores(six_mp(), placebo());
  EXPECT_NEAR(std::accumulate(scores.x.begin(), scores.x.end(), 0.0), 19.25050094803113 - 9, 1e-9);
  EXPECT_NEAR(std::accumulate(scores.y.begin(), scores.y.end(), 0.0), 9 - 19.25050094803113, 1e-9);
}

// Chi-squared with one degree of freedom gives 4.17e-5 (lifelines 0.30.3).
TEST(LogRankTest, AgreesWithTheApproximationForManyRuns) {
  const PermutationTest test = log_rank_test(six_mp(), placebo());
  EXPECT_FALSE(test.exact());
  EXPECT_LT(test.p_two_sided(), 5e-4);
  EXPECT_GT(test.p_two_sided(), 0);
  EXPECT_LT(test.p_greater(), test.p_less()) << "6-MP lasts longer";
}

// numpy: observed less expected events over all assignments of runs to samples.
TEST(LogRankTest, IsExactForFewRuns) {
  const PermutationTest a =
      log_rank_test(reached({5, 7, 9, 12}), {{8, true}, {15, true}, {20, true}, {20, false}, {20, false}});
  EXPECT_TRUE(a.exact());
  EXPECT_NEAR(a.p_greater(), 0.9841269841269841, 1e-12);
  EXPECT_NEAR(a.p_less(), 0.023809523809523808, 1e-12);
  const PermutationTest b =
      log_rank_test({{3, true}, {20, false}, {20, false}}, {{3, true}, {4, true}, {6, true}, {20, false}});
  EXPECT_NEAR(b.p_greater(), 0.37142857142857144, 1e-12);
  EXPECT_NEAR(b.p_less(), 0.8, 1e-12);
}

TEST(Survival, RefusesTimesThatAreNone) {
  EXPECT_THROW(kaplan_meier({{std::nan(""), true}}), UsageError);
  EXPECT_THROW(log_rank_test({{-1, true}}, {{1, true}}), UsageError);
  EXPECT_THROW(log_rank_test({}, {{1, true}}), UsageError);
  EXPECT_THROW(restricted_times({{1, true}}, {}), UsageError);
}

}  // namespace
}  // namespace klab
