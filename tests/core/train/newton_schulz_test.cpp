// SPDX-License-Identifier: Apache-2.0
#include "core/train/newton_schulz.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/train/muon_reference.h"

namespace klab {
namespace {

using torch::Tensor;

double error_of(const Tensor& x) {  // [n, rows, cols] float32
  const Tensor y = orthogonalised(x.clone());
  double most = 0;
  for (int64_t i = 0; i < x.size(0); ++i) {
    most = std::max(most, (y[i] - by_singular_values(x[i])).abs().max().item<double>());
  }
  return most;
}

// Rounding errors of one step grow by at most a = 3.4445 in each of the later ones, 3.4445^4 = 141.
constexpr double kRounding = 141 * 10 * 6e-8;

TEST(NewtonSchulz, AppliesThePolynomialToTheSingularValues) {
  for (const auto& [n, rows, cols] : {std::tuple{1, 12, 12},
                                      {1, 12, 17},
                                      {1, 12, 18},
                                      {3, 12, 40},
                                      {5, 1, 9},
                                      {4, 1, 1},
                                      {2, 32, 33},
                                      {7, 48, 48},
                                      {2, 64, 200}}) {
    const Tensor x = torch::randn({n, rows, cols});
    EXPECT_LT(error_of(x), kRounding) << n << " of " << rows << " x " << cols;
    EXPECT_LT(error_of(1e-3 * x), kRounding) << "small: " << n << " of " << rows << " x " << cols;
  }
}

TEST(NewtonSchulz, BringsSingularValuesNearOne) {
  const Tensor y = orthogonalised(torch::randn({2, 24, 96}));
  const Tensor values = std::get<1>(torch::linalg_svd(y));
  EXPECT_GT(values.min().item<double>(), 0.6);
  EXPECT_LT(values.max().item<double>(), 1.3);
}

// The Gram matrix squares the condition number: rounding of 6e-8 in A grows by a^2 in every step, 6e-8 * 3.4445^10 =
// 0.014 relative to a singular value of 1; the values that it hits are small.
TEST(NewtonSchulz, StandsBadlyConditionedMatrices) {
  for (const int64_t cols : {32, 80}) {
    const Tensor left = std::get<0>(torch::linalg_qr(torch::randn({32, 32}, torch::kDouble)));
    const Tensor right = std::get<0>(torch::linalg_qr(torch::randn({cols, 32}, torch::kDouble))).t();
    for (const double least : {-2, -4, -7}) {
      const Tensor values = torch::logspace(0, least, 32, 10, torch::kDouble);
      EXPECT_LT(error_of(torch::matmul(left * values, right).to(torch::kFloat).unsqueeze(0)), 0.014) << cols << least;
    }
    const Tensor low_rank = torch::matmul(torch::randn({32, 2}), torch::randn({2, cols})).unsqueeze(0);
    EXPECT_LT(error_of(low_rank), 0.014) << cols;
  }
}

TEST(NewtonSchulz, KeepsZerosAndOtherMatricesApart) {
  Tensor x = torch::randn({3, 8, 24});
  x[1].zero_();
  const Tensor y = orthogonalised(x.clone());
  EXPECT_EQ(y[1].abs().max().item<double>(), 0);
  EXPECT_LT((y[2] - by_singular_values(x[2])).abs().max().item<double>(), kRounding);
}

}  // namespace
}  // namespace klab
