// SPDX-License-Identifier: Apache-2.0
#include "core/rl/curriculum.h"

#include <algorithm>

#include "core/base/error.h"

namespace klab {
namespace {

constexpr double kLeastShare = 0.02;
constexpr double kDecay = 0.9;

}  // namespace

Curriculum::Curriculum(std::vector<double> weights, std::string kind)
    : weights_(std::move(weights)), success_(weights_.size(), 0.5), kind_(std::move(kind)) {}

double Curriculum::share(size_t variant) const {
  const double s = success_[variant];
  const double factor = kind_ == "prioritised" ? 1 - s : kind_ == "learnable" ? s * (1 - s) : 1;
  return weights_[variant] * std::max(factor, kLeastShare);
}

size_t Curriculum::draw(Random& random) const {
  double all = 0;
  for (size_t i = 0; i < weights_.size(); ++i) all += share(i);
  double point = random.uniform() * all;
  for (size_t i = 0; i + 1 < weights_.size(); ++i) {
    point -= share(i);
    if (point < 0) return i;
  }
  return weights_.size() - 1;
}

void Curriculum::observe(size_t variant, double share) {
  success_[variant] = kDecay * success_[variant] + (1 - kDecay) * share;
}

void Curriculum::restore(const std::vector<double>& success_rates) {
  if (success_rates.size() != weights_.size()) {
    fail("the checkpoint has success rates of {} variants of the task, but the config has {}", success_rates.size(),
         weights_.size());
  }
  success_ = success_rates;
}

}  // namespace klab
