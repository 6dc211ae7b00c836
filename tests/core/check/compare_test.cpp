// SPDX-License-Identifier: Apache-2.0
#include "core/check/compare.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <limits>

namespace klab {
namespace {

const double kNaN = std::numeric_limits<double>::quiet_NaN();
const double kInfinity = std::numeric_limits<double>::infinity();

const Tolerance kLoose{.of_element = 1e-3, .of_rms = 1e-3};

at::Tensor sample() { return at::arange(1, 13, at::kDouble).view({3, 4}); }

at::Tensor sample_with(int64_t row, int64_t column, double value) {
  at::Tensor x = sample();
  x.index_put_({row, column}, value);
  return x;
}

void expect_failure(const at::Tensor& actual, const at::Tensor& expected, const std::string& part,
                    const Tolerance& tolerance = kLoose) {
  const Comparison result = compare(actual, expected, tolerance);
  EXPECT_FALSE(result.pass) << result.message;
  EXPECT_GT(result.ratio, 1);
  EXPECT_NE(result.message.find(part), std::string::npos) << result.message;
}

TEST(Compare, EqualTensorsPassEvenWhenNothingIsAllowed) {
  const Comparison result = compare(sample(), sample());
  EXPECT_TRUE(result.pass) << result.message;
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.ratio, 0);
}

TEST(Compare, NothingIsAllowedByDefault) {
  expect_failure(sample_with(1, 2, 7 + 1e-15), sample(), "[1, 2]", Tolerance{});
}

TEST(Compare, NaNFailsInEitherAndInBoth) {
  const at::Tensor bad = sample_with(2, 1, kNaN);
  expect_failure(bad, sample(), "NaN or infinite");
  expect_failure(sample(), bad, "NaN or infinite");
  expect_failure(bad, bad.clone(), "NaN or infinite");
  const Tolerance everything{.of_element = kInfinity, .of_rms = kInfinity, .absolute = kInfinity};
  expect_failure(bad, sample(), "[2, 1]", everything);
  EXPECT_EQ(compare(bad, sample(), kLoose).index, (std::vector<int64_t>{2, 1}));
}

TEST(Compare, InfinityFailsInEitherAndInBoth) {
  for (const double value : {kInfinity, -kInfinity}) {
    const at::Tensor bad = sample_with(0, 3, value);
    expect_failure(bad, sample(), "[0, 3]");
    expect_failure(sample(), bad, "[0, 3]");
    expect_failure(bad, bad.clone(), "[0, 3]");
  }
}

TEST(Compare, AToleranceThatIsNaNAllowsNothing) {
  expect_failure(sample_with(0, 0, 2), sample(), "beyond", {.of_element = kNaN});
  expect_failure(sample_with(0, 0, 2), sample(), "beyond", {.of_element = 2, .relative_rms = kNaN});
}

TEST(Compare, SwappedRowsFail) {
  expect_failure(sample().index_select(0, at::tensor({1, 0, 2})), sample(), "8 of 12 elements");
}

TEST(Compare, StaleZerosFail) { expect_failure(at::zeros({3, 4}, at::kDouble), sample(), "12 of 12"); }

TEST(Compare, AnExpectationOfZerosAllowsOnlyZeros) {
  expect_failure(sample(), at::zeros({3, 4}, at::kDouble), "12 of 12");
  EXPECT_TRUE(compare(at::zeros({3}), at::zeros({3}), kLoose).pass);
}

TEST(Compare, AFlippedSignFails) {
  expect_failure(-sample(), sample(), "12 of 12");
  expect_failure(sample(), -sample(), "12 of 12");
  expect_failure(sample_with(1, 1, -6), sample(), "1 of 12");
}

TEST(Compare, TwoNegativesAreComparedByTheirDistance) {
  expect_failure(-2 * sample(), -sample(), "12 of 12");
  expect_failure(-sample(), -2 * sample(), "12 of 12");
  EXPECT_TRUE(compare(-sample() * (1 + 1e-4), -sample(), kLoose).pass);
}

TEST(Compare, AnotherShapeFailsEvenWhereItWouldBroadcast) {
  expect_failure(sample().view({4, 3}), sample(), "shape");
  expect_failure(at::ones({1, 4}, at::kDouble), at::ones({3, 4}, at::kDouble), "shape");
  expect_failure(at::ones({}, at::kDouble), at::ones({1}, at::kDouble), "shape");
  expect_failure(at::empty({0}), at::empty({1, 0}), "shape");
}

TEST(Compare, ExpectedMayBeWiderButNotNarrower) {
  EXPECT_TRUE(compare(sample().to(at::kFloat), sample(), kLoose).pass);
  EXPECT_TRUE(compare(sample().to(at::kBFloat16), sample(), kLoose).pass);
  expect_failure(sample(), sample().to(at::kFloat), "dtype");
  expect_failure(sample().to(at::kBFloat16), sample().to(at::kHalf), "dtype");
  expect_failure(sample().to(at::kLong), sample(), "dtype");
}

TEST(Compare, APromisedDtypeIsDemanded) {
  const Tolerance promised{.of_rms = 1e-3, .dtype = at::kFloat};
  EXPECT_TRUE(compare(sample().to(at::kFloat), sample(), promised).pass);
  expect_failure(sample(), sample(), "promised", promised);
  expect_failure(sample().to(at::kHalf), sample(), "promised", promised);
}

TEST(Compare, SharedMemoryIsNoEvidence) {
  const at::Tensor x = sample();
  expect_failure(x, x, "share memory");
  expect_failure(x.view({12}).narrow(0, 0, 4), x.select(0, 2), "share memory");
  expect_failure(x.detach(), x.t(), "share memory");
  std::vector<double> raw(4, 1.0);
  expect_failure(at::from_blob(raw.data(), {3}, at::kDouble), at::from_blob(raw.data() + 1, {3}, at::kDouble),
                 "share memory");
}

TEST(Compare, UndefinedFails) {
  expect_failure(at::Tensor(), sample(), "actual is undefined");
  expect_failure(sample(), at::Tensor(), "expected is undefined");
}

TEST(Compare, EmptyTensorsOfOneShapeAreEqual) {
  EXPECT_TRUE(compare(at::empty({2, 0, 3}), at::empty({2, 0, 3})).pass);
  EXPECT_TRUE(compare(at::empty({0}), at::empty({0}, at::kDouble)).pass);
}

TEST(Compare, ScalarsHaveNoIndex) {
  const Comparison result = compare(at::scalar_tensor(1.0), at::scalar_tensor(2.0));
  EXPECT_FALSE(result.pass);
  EXPECT_TRUE(result.index.empty());
  EXPECT_EQ(result.error, 1);
}

TEST(Compare, NonContiguousTensorsAreReadByIndex) {
  EXPECT_TRUE(compare(sample().t().contiguous().t(), sample()).pass);
  const Comparison result = compare(sample_with(2, 1, 11).t(), sample().t().contiguous());
  EXPECT_EQ(result.index, (std::vector<int64_t>{1, 2}));
}

TEST(Compare, ReportsTheWorstElementAndItsNeighbours) {
  at::Tensor actual = sample_with(1, 1, 6.5);
  actual.index_put_({2, 3}, 12.25);
  const Comparison result = compare(actual, sample(), {.absolute = 0.1});
  EXPECT_FALSE(result.pass);
  EXPECT_EQ(result.index, (std::vector<int64_t>{1, 1}));
  EXPECT_DOUBLE_EQ(result.error, 0.5);
  EXPECT_DOUBLE_EQ(result.allowed, 0.1);
  EXPECT_DOUBLE_EQ(result.ratio, 5);
  EXPECT_EQ(result.actual, 6.5);
  EXPECT_EQ(result.expected, 6);
  EXPECT_NE(result.message.find("4 5 [6.5] 7 8"), std::string::npos) << result.message;
  EXPECT_NE(result.message.find("4 5 [6] 7 8"), std::string::npos) << result.message;
}

TEST(Compare, TheWorstElementIsTheOneFurthestBeyondWhatIsAllowedThere) {
  // 0.5 off at 1 is worse than 1 off at 1000 when errors may grow with the element.
  const Comparison result = compare(at::tensor({1.5, 1001.0}), at::tensor({1.0, 1000.0}), {.of_element = 0.01});
  EXPECT_EQ(result.index, (std::vector<int64_t>{0}));
}

TEST(Compare, EachPartOfTheToleranceCounts) {
  const at::Tensor expected = at::tensor({3.0, 4.0, 0.0, 0.0});  // RMS 2.5
  const auto off_by = [&](double error) { return expected + at::tensor({0.0, 0.0, error, 0.0}); };
  EXPECT_TRUE(compare(off_by(0.24), expected, {.of_rms = 0.1}).pass);
  EXPECT_FALSE(compare(off_by(0.26), expected, {.of_rms = 0.1}).pass);
  EXPECT_TRUE(compare(off_by(0.24), expected, {.absolute = 0.25}).pass);
  EXPECT_FALSE(compare(off_by(1e-9), expected, {.of_element = 0.5}).pass);
  EXPECT_TRUE(compare(expected * 1.4, expected, {.of_element = 0.5}).pass);
}

TEST(Compare, VeryLargeAndVerySmallNumbersAreMeasuredTheSame) {
  for (const double scale : {1e300, 1e-300}) {
    expect_failure(1.01 * scale * sample(), scale * sample(), "11 of 12", {.of_element = 5e-3, .of_rms = 1e-3});
    EXPECT_TRUE(compare(1.01 * scale * sample(), scale * sample(), {.of_element = 0.02}).pass);
    EXPECT_NEAR(compare(1.01 * scale * sample(), scale * sample()).relative_rms, 0.01, 1e-12);
  }
}

TEST(Compare, TheRmsIsBoundedBesideTheElements) {
  const at::Tensor expected = at::ones({100}, at::kDouble), actual = expected * 1.01;
  const Tolerance tolerance{.of_element = 0.02, .relative_rms = 0.005};
  const Comparison result = compare(actual, expected, tolerance);
  EXPECT_FALSE(result.pass);
  EXPECT_NEAR(result.relative_rms, 0.01, 1e-12);
  EXPECT_NEAR(result.ratio, 2, 1e-9);
  EXPECT_TRUE(compare(actual, expected, {.of_element = 0.02, .relative_rms = 0.011}).pass);
}

}  // namespace
}  // namespace klab
