// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/survival.h"

#include <algorithm>
#include <boost/math/distributions/beta.hpp>
#include <cmath>

#include "core/base/error.h"

namespace klab {
namespace {

// Sorted by time; at equal times the reached ones first.
std::vector<Time> sorted_times(std::vector<Time> times) {
  for (const Time& time : times) {
    if (!std::isfinite(time.value) || time.value < 0)
      refuse("time {}: expected a finite time of at least 0", time.value);
  }
  std::sort(times.begin(), times.end(), [](const Time& a, const Time& b) {
    return a.value != b.value ? a.value < b.value : a.reached && !b.reached;
  });
  return times;
}

std::vector<Time> pooled_times(std::vector<Time> x, const std::vector<Time>& y) {
  if (x.empty() || y.empty()) refuse("times of {} and {} runs: expected some of each", x.size(), y.size());
  x.insert(x.end(), y.begin(), y.end());
  return sorted_times(std::move(x));
}

// A product of independent Beta(y, 1) variables, and the beta distribution with its mean and variance.
struct BetaProduct {
  double first = 1, second = 1;  // moments

  void multiply(double y) {
    first *= y / (y + 1);
    second *= y / (y + 2);
  }
  double quantile(double probability) const {
    if (first == 0 || second >= first) return first;  // the constant 0 or 1
    const double scale = (first - second) / (second - first * first);
    return boost::math::quantile(boost::math::beta_distribution<>(first * scale, (1 - first) * scale), probability);
  }
};

// The end of the run of equal reached times that begins at `begin`.
size_t end_of_tie(const std::vector<Time>& sorted, size_t begin) {
  size_t end = begin;
  while (end < sorted.size() && sorted[end].reached && sorted[end].value == sorted[begin].value) ++end;
  return end;
}

}  // namespace

std::vector<SurvivalStep> kaplan_meier(const std::vector<Time>& times, double level) {
  const std::vector<Time> sorted = sorted_times(times);
  std::vector<SurvivalStep> steps;
  double survival = 1;
  BetaProduct upper;
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (!sorted[i].reached) continue;
    const size_t end = end_of_tie(sorted, i);
    SurvivalStep step{sorted[i].value, static_cast<int64_t>(sorted.size() - i), static_cast<int64_t>(end - i), 0, {}};
    survival *= 1 - static_cast<double>(step.reached) / static_cast<double>(step.at_risk);
    for (; i < end; ++i) upper.multiply(static_cast<double>(sorted.size() - i));
    i = end - 1;
    BetaProduct lower = upper;  // one more event, just after
    const auto censored_here = std::count_if(sorted.begin() + static_cast<ptrdiff_t>(end), sorted.end(),
                                             [&](const Time& time) { return time.value == step.time; });
    lower.multiply(static_cast<double>(sorted.size() - end) - static_cast<double>(censored_here));
    step.survival = survival;
    step.interval = {lower.quantile((1 - level) / 2), upper.quantile((1 + level) / 2)};
    steps.push_back(step);
  }
  return steps;
}

std::optional<double> median_time(const std::vector<Time>& times) {
  for (const SurvivalStep& step : kaplan_meier(times)) {
    if (step.survival <= 0.5 + 1e-12) return step.time;
  }
  return std::nullopt;
}

RestrictedTimes restricted_times(const std::vector<Time>& x, const std::vector<Time>& y) {
  const std::vector<Time> pooled = pooled_times(x, y);
  const auto censored = std::find_if(pooled.begin(), pooled.end(), [](const Time& time) { return !time.reached; });
  RestrictedTimes times;
  times.horizon = censored == pooled.end() ? pooled.back().value : censored->value;
  for (const Time& time : x) times.x.push_back(std::min(time.value, times.horizon));
  for (const Time& time : y) times.y.push_back(std::min(time.value, times.horizon));
  return times;
}

LogRankScores log_rank_scores(const std::vector<Time>& x, const std::vector<Time>& y) {
  const std::vector<Time> pooled = pooled_times(x, y);
  std::vector<double> hazard(pooled.size());  // cumulative, up to and including each time (Nelson and Aalen)
  double sum = 0;
  for (size_t i = 0; i < pooled.size();) {
    const size_t end = end_of_tie(pooled, i);
    sum += static_cast<double>(end - i) / static_cast<double>(pooled.size() - i);
    const size_t next = std::max(end, i + 1);
    std::fill(hazard.begin() + static_cast<ptrdiff_t>(i), hazard.begin() + static_cast<ptrdiff_t>(next), sum);
    i = next;
  }
  const auto score = [&](const Time& time) {
    const auto after = std::upper_bound(pooled.begin(), pooled.end(), time.value,
                                        [](double value, const Time& other) { return value < other.value; });
    return hazard[static_cast<size_t>(after - pooled.begin()) - 1] - (time.reached ? 1 : 0);
  };
  LogRankScores scores;
  std::transform(x.begin(), x.end(), std::back_inserter(scores.x), score);
  std::transform(y.begin(), y.end(), std::back_inserter(scores.y), score);
  return scores;
}

PermutationTest log_rank_test(const std::vector<Time>& x, const std::vector<Time>& y, const Arrangements& how) {
  const LogRankScores scores = log_rank_scores(x, y);
  return PermutationTest::two_sample(scores.x, scores.y, how);
}

}  // namespace klab
