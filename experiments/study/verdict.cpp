// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "experiments/study/bounded_mean.h"
#include "experiments/study/permutation.h"
#include "experiments/study/power.h"

namespace klab {
namespace {

constexpr Interval kShares{0, 1};

bool significant(double p, double alpha) { return p <= alpha * (1 + 1e-9); }

Share successes_of(const std::vector<double>& values) {
  for (const double value : values) {
    if (value != 0 && value != 1) refuse("Fisher's test of the value {}: expected 0 or 1 for every seed", value);
  }
  return {std::count(values.begin(), values.end(), 1.0), static_cast<int64_t>(values.size())};
}

std::vector<double> differences_of(const std::vector<double>& x, const std::vector<double>& y) {
  std::vector<double> differences;
  std::transform(x.begin(), x.end(), y.begin(), std::back_inserter(differences), std::minus<>());
  return differences;
}

void check_question(const Question& question) {
  if (!(question.alpha > 0 && question.alpha < 1)) refuse("alpha = {}: expected a value in (0, 1)", question.alpha);
  if (!(question.margin >= 0)) refuse("margin = {}: expected at least 0", question.margin);
  if (question.paired && question.test != TestKind::means) refuse("paired: only the test of means has pairs");
}

bool measured(const Comparison& c) {
  if (c.question.test == TestKind::log_rank) return std::min(c.times_x.size(), c.times_y.size()) >= 2;
  return std::min(c.x.size(), c.y.size()) >= 2;
}

// The unadjusted results of a comparison.
struct Tested {
  Judgement judgement;
  double sign = 0;  // of the difference that the test sees
  bool asks_equality = false;
};

// Whether equality is tested: with a margin, and within a range with enough seeds to show it. Values in the middle of
// the range are shown to be equal most easily, with a p-value of about (1 + t) exp(-t). The rule uses nothing but the
// numbers of seeds, so that a family is the same whatever was measured.
bool asks_equality(const Question& q, const std::optional<Interval>& range, size_t seeds) {
  if (!range) return q.margin > 0;
  const double t = 2 * q.margin / (range->high - range->low) * static_cast<double>(seeds);
  return q.margin > 0 && (1 + t) * std::exp(-t) <= q.alpha;
}

// The equality of means under a shift: two one-sided tests of shifts by the margin.
double p_shift_equal(const PermutationTest& test, double margin) {
  return std::max(test.p_greater(-margin), test.p_less(margin));
}

Interval differences_range(const Interval& range) { return {range.low - range.high, range.high - range.low}; }

double p_equal_within(const Comparison& c, const Interval& range, double margin) {
  if (!c.question.paired) return p_means_differ(c.x, c.y, range, margin);
  return p_mean_nonzero(differences_of(c.x, c.y), differences_range(range), margin);
}

Interval interval_within(const Comparison& c, const Interval& range) {
  const double level = 1 - c.question.alpha;
  if (!c.question.paired) return mean_difference_interval(c.x, c.y, range, level);
  return mean_interval(differences_of(c.x, c.y), differences_range(range), level);
}

Tested test_means(const Comparison& c) {
  const Question& q = c.question;
  const PermutationTest test = q.paired ? PermutationTest::paired(c.x, c.y) : PermutationTest::two_sample(c.x, c.y);
  Judgement j;
  j.p = test.p_two_sided();
  j.effect = test.difference();
  j.shift_interval = test.interval(1 - q.alpha);
  j.interval = q.range ? interval_within(c, *q.range) : *j.shift_interval;
  const bool asks = asks_equality(q, q.range, std::min(c.x.size(), c.y.size()));
  if (asks) j.p_equal = q.range ? p_equal_within(c, *q.range, q.margin) : p_shift_equal(test, q.margin);
  return {j, j.effect, asks};
}

Tested test_shares(const Comparison& c) {
  Judgement j;
  j.p = fisher_test(successes_of(c.x), successes_of(c.y));
  j.effect = mean_of(c.x) - mean_of(c.y);
  j.interval = mean_difference_interval(c.x, c.y, kShares, 1 - c.question.alpha);
  const bool asks = asks_equality(c.question, kShares, std::min(c.x.size(), c.y.size()));
  if (asks) j.p_equal = p_means_differ(c.x, c.y, kShares, c.question.margin);
  return {j, j.effect, asks};
}

Tested test_times(const Comparison& c) {
  const PermutationTest test = log_rank_test(c.times_x, c.times_y);
  const RestrictedTimes times = restricted_times(c.times_x, c.times_y);
  const Interval range{0, times.horizon};
  Judgement j;
  j.p = test.p_two_sided();
  j.effect = mean_of(times.x) - mean_of(times.y);
  j.interval = mean_difference_interval(times.x, times.y, range, 1 - c.question.alpha);
  const bool asks = asks_equality(c.question, range, std::min(times.x.size(), times.y.size()));
  if (asks) j.p_equal = p_means_differ(times.x, times.y, range, c.question.margin);
  return {j, test.difference(), asks};
}

Tested test_comparison(const Comparison& c) {
  switch (c.question.test) {
    case TestKind::means: return test_means(c);
    case TestKind::fisher: return test_shares(c);
    case TestKind::log_rank: return test_times(c);
  }
  fail("an unknown test");
}

bool all_at_ends(const std::vector<double>& values, const Interval& range) {
  return std::all_of(values.begin(), values.end(), [&](double v) { return v == range.low || v == range.high; });
}

Share share_at(const std::vector<double>& values, double end) {
  return {std::count(values.begin(), values.end(), end), static_cast<int64_t>(values.size())};
}

// Values at the ends of their range alone are shares: resampled, three equal ones would never vary.
std::optional<int64_t> seeds_for_values(const Comparison& c, double level) {
  const std::optional<Interval>& range = c.question.range;
  if (range && all_at_ends(c.x, *range) && all_at_ends(c.y, *range)) {
    return seeds_for_shares(share_at(c.x, range->high), share_at(c.y, range->high), level);
  }
  return c.question.paired ? seeds_for_pairs(c.x, c.y, level) : seeds_for_means(c.x, c.y, level);
}

std::optional<int64_t> seeds_for(const Comparison& c, double level) {
  switch (c.question.test) {
    case TestKind::means: return seeds_for_values(c, level);
    case TestKind::fisher: return seeds_for_shares(successes_of(c.x), successes_of(c.y), level);
    case TestKind::log_rank: return seeds_for_times(c.times_x, c.times_y, level);
  }
  fail("an unknown test");
}

double larger_p(const Tested& t) {
  return t.asks_equality ? std::max(t.judgement.p, t.judgement.p_equal) : t.judgement.p;
}

// `p` adjusted together with the larger p-value of every other comparison.
double adjusted_among(double p, std::vector<double> others) {
  others.push_back(p);
  return holm(others).back();
}

Verdict decide(const Judgement& j, const Question& q, double sign) {
  if (significant(j.adjusted_p_equal, q.alpha)) return Verdict::equal;
  if (!significant(j.adjusted_p, q.alpha)) return Verdict::undecided;
  return (sign > 0) == (q.direction == Direction::greater) ? Verdict::held : Verdict::reversed;
}

// The level at which Holm's procedure stops at a comparison, after those that it rejects.
double remaining_level(double alpha, std::vector<double> others) {
  others.push_back(1);
  const std::vector<double> adjusted = holm(others);
  const auto rejected =
      std::count_if(adjusted.begin(), adjusted.end(), [&](double p) { return significant(p, alpha); });
  return alpha / static_cast<double>(others.size() - static_cast<size_t>(rejected));
}

std::string p_text(double p) {
  if (p < 0.001) return "p < .001";
  const std::string digits = p < 0.01 ? fmt::format("{:.3f}", p) : fmt::format("{:.2f}", p);
  return "p = " + (digits.front() == '0' ? digits.substr(1) : digits);
}

std::string margin_text(const Question& q) { return fmt::format("{:g} {}", q.margin / q.unit.size, q.unit.name); }

}  // namespace

Judgement judge(const Comparison& comparison) { return judge(std::vector<Comparison>{comparison}).front(); }

std::vector<Judgement> judge(const std::vector<Comparison>& family, bool count_seeds) {
  std::vector<Judgement> judgements(family.size());
  std::vector<size_t> cells;  // those measured
  std::vector<double> larger, signs;
  for (size_t i = 0; i < family.size(); ++i) {
    const Question& question = family[i].question;
    check_question(question);
    if (question.alpha != family.front().question.alpha) {
      refuse("alpha = {} and {} in one family: expected the same", family.front().question.alpha, question.alpha);
    }
    if (!measured(family[i])) continue;
    const Tested tested = test_comparison(family[i]);
    judgements[i] = tested.judgement;
    cells.push_back(i);
    signs.push_back(tested.sign);
    larger.push_back(larger_p(tested));
  }
  for (size_t k = 0; k < cells.size(); ++k) {
    const Comparison& comparison = family[cells[k]];
    Judgement& j = judgements[cells[k]];
    std::vector<double> others = larger;
    others.erase(others.begin() + static_cast<ptrdiff_t>(k));
    j.adjusted_p = adjusted_among(j.p, others);
    j.adjusted_p_equal = adjusted_among(j.p_equal, others);
    j.verdict = decide(j, comparison.question, signs[k]);
    if (j.verdict != Verdict::undecided || !count_seeds) continue;
    j.seeds = seeds_for(comparison, remaining_level(comparison.question.alpha, others));
  }
  return judgements;
}

std::string verdict_text(const Judgement& judgement, const Question& question) {
  const std::string p = p_text(judgement.adjusted_p);
  switch (judgement.verdict) {
    case Verdict::held: return fmt::format("held ({})", p);
    case Verdict::reversed: return fmt::format("reversed ({})", p);
    case Verdict::equal: return "equal within " + margin_text(question);
    case Verdict::undecided:
      if (!judgement.seeds) return fmt::format("not decided: more than {} seeds needed at this difference", kMostSeeds);
      return fmt::format("not decided: some {} seeds would decide it at this difference", *judgement.seeds);
    case Verdict::not_measured: return "not measured";
  }
  fail("an unknown verdict");
}

}  // namespace klab
