// SPDX-License-Identifier: Apache-2.0
#include "core/check/tolerance.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <cstdlib>

namespace klab {
namespace {

TEST(Tolerance, UnitRoundoffIsHalfTheStepAboveOne) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    const double u = unit_roundoff(dtype);
    const auto rounded = [&](double x) { return at::scalar_tensor(x, at::kDouble).to(dtype).item<double>(); };
    EXPECT_EQ(rounded(1 + 2 * u), 1 + 2 * u) << dtype;
    EXPECT_EQ(rounded(1 + 0.999 * u), 1) << dtype;
  }
  EXPECT_THROW(unit_roundoff(at::kLong), c10::ValueError);
}

TEST(Tolerance, GrowsWithTheRootOfTheTerms) {
  const Tolerance one = derived_tolerance({at::kFloat, at::kFloat, 1});
  const Tolerance hundred = derived_tolerance({at::kFloat, at::kFloat, 100});
  EXPECT_DOUBLE_EQ(hundred.of_rms, 10 * one.of_rms);
  EXPECT_THROW(derived_tolerance({at::kFloat, at::kFloat, 0}), c10::ValueError);
}

TEST(Tolerance, FloatSumsStayTenTimesBelowTheFieldsBounds) {
  for (const int64_t terms : {int64_t{1}, int64_t{1000}, int64_t{1} << 40}) {
    EXPECT_LE(derived_tolerance({at::kFloat, at::kFloat, terms}).relative_rms, 5e-4);
    EXPECT_LE(derived_tolerance({at::kFloat, at::kFloat, terms, 1, true}).relative_rms, 1e-3);
  }
  // Where it matters the derived bound is far below.
  EXPECT_LT(derived_tolerance({at::kFloat, at::kFloat, 1128}).relative_rms, 1e-5);
}

TEST(Tolerance, AllowsOneRoundingOfTheResult) {
  const Tolerance narrow = derived_tolerance({at::kFloat, at::kBFloat16, 100});
  const Tolerance wide = derived_tolerance({at::kFloat, at::kFloat, 100});
  EXPECT_NEAR(narrow.of_element - wide.of_element, unit_roundoff(at::kBFloat16), 1e-7);
  EXPECT_EQ(narrow.dtype, at::kBFloat16);
}

TEST(Tolerance, NothingInTheEnvironmentSoftensIt) {
  const double before = derived_tolerance({at::kFloat, at::kFloat, 10}).of_rms;
  for (const char* name : {"CI", "FLA_CI_ENV", "KLAB_TOLERANCE"}) setenv(name, "1", 1);
  EXPECT_EQ(derived_tolerance({at::kFloat, at::kFloat, 10}).of_rms, before);
}

}  // namespace
}  // namespace klab
