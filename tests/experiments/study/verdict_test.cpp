// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/verdict.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"

namespace klab {
namespace {

using Values = std::vector<double>;

Comparison compare(const Values& x, const Values& y, const Question& question = {}) { return {question, x, y, {}, {}}; }

Question within(double margin) {
  Question question;
  question.margin = margin;
  return question;
}

Question of_losses(double margin) {
  Question question = within(margin);
  question.range = std::nullopt;
  return question;
}

Question of_kind(TestKind test, Direction direction = Direction::greater) {
  Question question;
  question.test = test;
  question.direction = direction;
  return question;
}

std::string text_of(const Comparison& comparison) { return verdict_text(judge(comparison), comparison.question); }

TEST(Judge, HoldsOrReversesASignificantDifference) {
  const Values high{0.95, 0.9, 0.92, 0.97, 0.94}, low{0.6, 0.5, 0.7, 0.65, 0.55};
  const Judgement j = judge(compare(high, low));
  EXPECT_EQ(j.verdict, Verdict::held);
  EXPECT_DOUBLE_EQ(j.p, 2.0 / 252);
  EXPECT_EQ(j.adjusted_p, j.p);
  EXPECT_NEAR(j.effect, 0.336, 1e-12);
  ASSERT_TRUE(j.shift_interval);
  EXPECT_GT(j.shift_interval->low, 0.2);
  EXPECT_LT(j.interval.low, j.shift_interval->low) << "a mixer may fail where these seeds did not";
  EXPECT_GE(j.interval.low, -1);
  EXPECT_LE(j.interval.high, 1);
  EXPECT_EQ(judge(compare(low, high)).verdict, Verdict::reversed);
  Question less;
  less.direction = Direction::less;
  EXPECT_EQ(judge(compare(low, high, less)).verdict, Verdict::held);
  EXPECT_EQ(judge(compare(high, low, less)).verdict, Verdict::reversed);
}

TEST(Judge, DoesNotDecideWithThreeSeeds) {
  const Judgement j = judge(compare({0.9, 0.91, 0.92}, {0.1, 0.11, 0.12}));
  EXPECT_EQ(j.verdict, Verdict::undecided);
  EXPECT_DOUBLE_EQ(j.p, 0.1);
  EXPECT_EQ(j.seeds, 4);
}

TEST(Judge, DoesNotPromiseThatZeroAndOneRemain) {
  EXPECT_EQ(judge(compare({1, 1, 1}, {0, 0, 0})).seeds, 8) << "as Fisher's test";
  EXPECT_EQ(judge(compare({1, 1, 1}, {0, 0, 0}, of_kind(TestKind::fisher))).seeds, 8);
}

TEST(Judge, IsNotMeasuredWithFewerThanTwoSeeds) {
  const Judgement j = judge(compare({0.9}, {0.1, 0.2}));
  EXPECT_EQ(j.verdict, Verdict::not_measured);
  EXPECT_TRUE(std::isnan(j.effect));
  EXPECT_EQ(judge(compare({}, {})).verdict, Verdict::not_measured);
}

TEST(Judge, TestsPairsBySeed) {
  const Values x{0.11, 0.32, 0.53, 0.74, 0.95, 0.66}, y{0.1, 0.3, 0.5, 0.7, 0.9, 0.6};
  Question paired;
  paired.paired = true;
  EXPECT_EQ(judge(compare(x, y)).verdict, Verdict::undecided);
  const Judgement j = judge(compare(x, y, paired));
  EXPECT_EQ(j.verdict, Verdict::held);
  EXPECT_DOUBLE_EQ(j.p, 2.0 / 64);
  EXPECT_NEAR(j.effect, 0.035, 1e-12);
}

TEST(Judge, TestsSharesOfSolvedSeeds) {
  const Values five{1, 1, 1, 1, 1};
  const Judgement j = judge(compare(five, {0, 0, 1, 0, 0}, of_kind(TestKind::fisher)));
  EXPECT_EQ(j.verdict, Verdict::held);
  EXPECT_NEAR(j.p, 0.047619, 1e-6);
  EXPECT_NEAR(j.effect, 0.8, 1e-12);
  EXPECT_GT(j.interval.low, 0);
  EXPECT_THROW(judge(compare(five, {0, 0, 0.5, 0, 0}, of_kind(TestKind::fisher))), UsageError);
}

TEST(Judge, TestsTimesByLogRank) {
  Comparison c;
  c.question = of_kind(TestKind::log_rank, Direction::less);
  for (const double value : {10, 20, 30, 40, 50}) c.times_x.push_back({value, true});
  for (const double value : {80, 90, 100, 100, 100}) c.times_y.push_back({value, value < 100});
  const Judgement j = judge(c);
  EXPECT_EQ(j.verdict, Verdict::held);
  EXPECT_DOUBLE_EQ(j.p, 2.0 / 252);
  EXPECT_DOUBLE_EQ(j.effect, 30 - 94);
  c.question.direction = Direction::greater;
  EXPECT_EQ(judge(c).verdict, Verdict::reversed);
  c.times_y.resize(1);
  EXPECT_EQ(judge(c).verdict, Verdict::not_measured);
}

TEST(Judge, FindsLossesEqualUnderAShift) {
  const Values x{1.00, 1.01, 1.02, 1.03, 1.04}, y{1.005, 1.015, 1.025, 1.012, 1.031};
  const Judgement j = judge(compare(x, y, of_losses(0.1)));
  EXPECT_EQ(j.verdict, Verdict::equal);
  EXPECT_DOUBLE_EQ(j.p_equal, 1.0 / 252);
  EXPECT_EQ(judge(compare(x, y, of_losses(0.005))).verdict, Verdict::undecided);
  EXPECT_EQ(judge(compare(x, y, of_losses(0))).verdict, Verdict::undecided) << "without a margin";
}

TEST(Judge, FindsAccuraciesEqualOnlyWithManySeeds) {
  EXPECT_EQ(judge(compare(Values(5, 1), Values(5, 1), within(0.05))).verdict, Verdict::undecided);
  EXPECT_EQ(judge(compare(Values(70, 1), Values(70, 1), within(0.05))).verdict, Verdict::equal);
  EXPECT_EQ(judge(compare(Values(70, 1), Values(70, 1), {})).verdict, Verdict::undecided);
  Question fisher = of_kind(TestKind::fisher);
  fisher.margin = 0.05;
  EXPECT_EQ(judge(compare(Values(70, 1), Values(70, 1), fisher)).verdict, Verdict::equal);
  Question paired = within(0.05);
  paired.paired = true;
  EXPECT_EQ(judge(compare(Values(70, 1), Values(70, 1), paired)).verdict, Verdict::equal);
  EXPECT_EQ(judge(compare(Values(5, 1), Values(5, 1), paired)).verdict, Verdict::undecided);
}

TEST(Judge, CallsASignificantDifferenceWithinTheMarginEqual) {
  const Values x{1.00, 1.01, 1.02, 1.03, 1.04}, y{1.10, 1.11, 1.12, 1.13, 1.14};
  EXPECT_EQ(judge(compare(x, y, of_losses(0.05))).verdict, Verdict::reversed);
  const Judgement j = judge(compare(x, y, of_losses(0.5)));
  EXPECT_EQ(j.verdict, Verdict::equal);
  EXPECT_LE(j.adjusted_p, 0.05);
}

// Without margins: Holm's procedure. With p of 2/252 and four undecided others, 5 x 2/252 = 0.04.
TEST(JudgeFamily, AdjustsByHolm) {
  const Values high{5, 6, 7, 8, 9}, low{0, 1, 2, 3, 4}, same{5, 6, 7, 8, 9};
  const Question loss = of_losses(0);
  const std::vector<Judgement> js = judge({compare(high, low, loss), compare(high, same, loss), compare({1}, {2}, loss),
                                           compare(high, low, loss), compare(low, high, loss)});
  EXPECT_DOUBLE_EQ(js[0].adjusted_p, 8.0 / 252);
  EXPECT_DOUBLE_EQ(js[3].adjusted_p, 8.0 / 252);
  EXPECT_EQ(js[0].verdict, Verdict::held);
  EXPECT_EQ(js[4].verdict, Verdict::reversed);
  EXPECT_EQ(js[1].verdict, Verdict::undecided);
  EXPECT_EQ(js[2].verdict, Verdict::not_measured) << "does not count";
}

TEST(JudgeFamily, DoesNotDecideWhatOneComparisonAloneWould) {
  const Values high{5, 6, 7, 8, 9}, low{0, 1, 2, 3, 4};
  const std::vector<Comparison> family(7, compare(high, low, of_losses(0)));
  EXPECT_EQ(judge(family.front()).verdict, Verdict::held);
  for (const Judgement& j : judge(family)) {
    EXPECT_DOUBLE_EQ(j.adjusted_p, 14.0 / 252);
    EXPECT_EQ(j.verdict, Verdict::undecided);
    EXPECT_EQ(j.seeds, 6);
  }
}

// A comparison whose equality is open counts against the others even if its difference is certain: of two comparisons
// with margins, two hypotheses may be true.
TEST(JudgeFamily, CountsOpenQuestionsOfEquality) {
  const Values high{5, 6, 7, 8, 9, 9.5}, low{0, 1, 2, 3, 4, 4.5}, mixed{3, 4, 5, 6, 7, 2.5};
  const auto p_of_second = [&](double margin) {
    return judge({compare(high, low, of_losses(margin)), compare(high, mixed, of_losses(margin))})[1];
  };
  EXPECT_DOUBLE_EQ(p_of_second(0).adjusted_p, p_of_second(0).p);
  EXPECT_DOUBLE_EQ(p_of_second(1).adjusted_p, 2 * p_of_second(1).p);
}

// No five accuracies could show equality within 5 points: Holm's procedure is for the differences alone.
TEST(JudgeFamily, DoesNotCountEqualityThatCannotBeShown) {
  const Values high{0.91, 0.92, 0.93, 0.94, 0.95}, low{0.1, 0.2, 0.3, 0.4, 0.5}, near{0.9, 0.905, 0.906, 0.914, 0.93};
  const std::vector<Judgement> js = judge({compare(high, low, within(0.05)), compare(high, near, within(0.05))});
  EXPECT_DOUBLE_EQ(js[1].adjusted_p, js[1].p);
  EXPECT_EQ(js[1].p_equal, 1);
}

TEST(JudgeFamily, RefusesNonsense) {
  Question strict;
  strict.alpha = 0.01;
  const Values two{0.1, 0.2};
  EXPECT_THROW(judge({compare(two, two), compare(two, two, strict)}), UsageError);
  EXPECT_THROW(judge(compare({0.1, std::nan("")}, two)), UsageError);
  EXPECT_THROW(judge(compare({0.1, 1.2}, two)), UsageError) << "outside the range";
  EXPECT_THROW(judge(compare(two, two, within(-1))), UsageError);
  strict.alpha = 0;
  EXPECT_THROW(judge(compare(two, two, strict)), UsageError);
  Question paired_shares = of_kind(TestKind::fisher);
  paired_shares.paired = true;
  EXPECT_THROW(judge(compare({0, 1}, {0, 1}, paired_shares)), UsageError);
  EXPECT_TRUE(judge(std::vector<Comparison>{}).empty());
}

TEST(VerdictText, SaysWhatWasFound) {
  EXPECT_EQ(text_of(compare({0.95, 0.9, 0.92, 0.97, 0.94}, {0.6, 0.5, 0.7, 0.65, 0.55})), "held (p = .008)");
  EXPECT_EQ(text_of(compare({1, 2, 3, 4}, {5, 6, 7, 8}, of_losses(0))), "reversed (p = .03)");
  EXPECT_EQ(text_of(compare(Values(10, 1), Values(10, 0))), "held (p < .001)");
  EXPECT_EQ(text_of(compare(Values(70, 1), Values(70, 1), within(0.05))), "equal within 5 points");
  EXPECT_EQ(text_of(compare({1, 1, 1}, {0, 0, 0})), "not decided: some 8 seeds would decide it at this difference");
  EXPECT_EQ(text_of(compare({1, 1, 1}, {1, 1, 1})), "not decided: more than 200 seeds needed at this difference");
  EXPECT_EQ(text_of(compare({}, {})), "not measured");
  Question steps = of_losses(0.5);
  steps.unit = {"nats", 1};
  EXPECT_EQ(text_of(compare({1, 1.1, 1, 1.2}, {1, 1.1, 1.2, 1.1}, steps)), "equal within 0.5 nats");
}

}  // namespace
}  // namespace klab
