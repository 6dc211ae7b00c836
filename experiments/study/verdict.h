// SPDX-License-Identifier: Apache-2.0
// Verdicts on claims of the form "mixer x does better than mixer y", over seeds.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "experiments/study/statistics.h"
#include "experiments/study/survival.h"

namespace klab {

/// held, reversed: the two differ significantly, in or against the claimed direction. equal: they differ by less than
/// the margin. undecided: neither was shown. not_measured: fewer than two seeds of one of them.
enum class Verdict { held, reversed, equal, undecided, not_measured };

enum class Direction { greater, less };  ///< of x, compared with y

enum class TestKind {
  means,    ///< permutation test of means over seeds, for example of a share of tokens
  fisher,   ///< Fisher's exact test; every value is 1 (the seed solved the task) or 0
  log_rank  ///< exact log-rank test of times; the effect is in restricted mean times
};

/// The unit of effects in text: 0.05 is 5 points.
struct Unit {
  std::string name = "points";
  double size = 0.01;
};

/// A claim and how it is tested.
struct Question {
  TestKind test = TestKind::means;
  Direction direction = Direction::greater;
  double alpha = 0.05;
  /// Differences below it do not matter; 0: equality is not a question.
  double margin = 0;
  bool paired = false;  ///< seed by seed; of `means` only
  /// Of the values of `means`. Within it, the interval and equality assume nothing about distributions; equality within
  /// 5 points then takes some 50 seeds each or more (bounded_mean.h). Without a range, as for losses, they assume that
  /// the distributions differ by a shift. Where some runs fail, that would call mixers equal wrongly far more often
  /// than alpha: three seeds of 100 % each would do.
  std::optional<Interval> range = Interval{0, 1};
  Unit unit = {};
};

struct Comparison {
  Question question;
  std::vector<double> x, y;            ///< of all tests but log_rank
  std::vector<Time> times_x, times_y;  ///< of log_rank
};

struct Judgement {
  Verdict verdict = Verdict::not_measured;
  double p = 1, adjusted_p = 1;              ///< that there is no difference, two-sided
  double p_equal = 1, adjusted_p_equal = 1;  ///< that the difference is not within the margin
  /// mean(x) - mean(y): of values, of shares, or of times up to the horizon that all runs reached.
  double effect = std::numeric_limits<double>::quiet_NaN();
  /// Its 1 - alpha interval, not adjusted. With a range, mean_difference_interval, which allows for failures that these
  /// seeds did not show: it may contain 0 where the test, which asks whether the two differ at all, sees a difference.
  Interval interval;
  std::optional<Interval> shift_interval;  ///< of `means`: PermutationTest::interval, which agrees with p
  /// If undecided: about how many seeds each would show a difference of this size in the family with a power of 80 %;
  /// none if more than 200 (power.h).
  std::optional<int64_t> seeds;
};

/// The judgement on one comparison alone.
Judgement judge(const Comparison& comparison);

/// The judgements on a family of comparisons with one alpha, under which any of held, reversed and equal is wrong
/// anywhere with a probability of at most alpha.
///
/// A comparison has two hypotheses, "no difference" and "a difference of at least the margin". At most one of them is
/// true, so that one comparison needs no adjustment, and of k comparisons at most k hypotheses are true. Closed testing
/// with Bonferroni's tests of those sets (Marcus, Peritz and Gabriel 1976) adjusts a p-value as Holm's procedure does
/// together with the larger p-value of every other comparison. Where equality is not a question, for lack of a margin
/// or of the seeds that could show it within a range, this is Holm's procedure for the differences.
///
/// A significant difference that is shown to lie within the margin is judged equal: it exists but does not matter.
/// `count_seeds`: false leaves out `seeds`, which take most of the time (about 0.05 s each).
std::vector<Judgement> judge(const std::vector<Comparison>& family, bool count_seeds = true);

/// For tables: "held (p = .003)", "equal within 5 points", "not decided: some 14 seeds would decide it at this
/// difference"; p adjusted.
std::string verdict_text(const Judgement& judgement, const Question& question);

}  // namespace klab
