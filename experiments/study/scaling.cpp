// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/scaling.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/base/error.h"
#include "core/base/random.h"

namespace klab {
namespace {

using Points = std::vector<std::pair<double, double>>;

void require_positive(const Points& points) {
  for (const auto& [compute, loss] : points) {
    const bool good = std::isfinite(compute) && std::isfinite(loss) && compute > 0 && loss > 0;
    if (!good) refuse("scaling law: compute {} with loss {}: both must be positive and finite", compute, loss);
  }
}

// --- The fit with an irreducible part: Levenberg and Marquardt's method on reweighted squares (Huber 1964) ---

// log(law) = log(e^irreducible + e^(reducible - rate x)), with x = log(compute) less its mean.
using Parameters = Eigen::Vector3d;  // irreducible, reducible, rate

struct Logs {
  std::vector<double> x, y;
  double middle = 0;
};

Logs logs_of(const Points& points) {
  Logs logs;
  for (const auto& [compute, loss] : points) {
    logs.x.push_back(std::log(compute));
    logs.y.push_back(std::log(loss));
    logs.middle += logs.x.back() / static_cast<double>(points.size());
  }
  for (double& x : logs.x) x -= logs.middle;
  return logs;
}

double log_sum(double a, double b) { return std::max(a, b) + std::log1p(std::exp(-std::abs(a - b))); }

double residual(const Parameters& p, double x, double y) { return log_sum(p[0], p[1] - p[2] * x) - y; }

double huber(double r, double threshold) {
  const double size = std::abs(r);
  return size <= threshold ? r * r / 2 : threshold * (size - threshold / 2);
}

double objective(const Parameters& p, const Logs& logs, double threshold) {
  double sum = 0;
  for (size_t i = 0; i < logs.x.size(); ++i) sum += huber(residual(p, logs.x[i], logs.y[i]), threshold);
  return sum;
}

Parameters descend(Parameters p, const Logs& logs, double threshold) {
  constexpr int kSteps = 500;
  double damping = 1e-3, now = objective(p, logs, threshold);
  for (int step = 0; step < kSteps && damping < 1e12; ++step) {
    Eigen::Matrix3d squares = Eigen::Matrix3d::Zero();
    Eigen::Vector3d slope = Eigen::Vector3d::Zero();
    for (size_t i = 0; i < logs.x.size(); ++i) {
      const double r = residual(p, logs.x[i], logs.y[i]), total = r + logs.y[i];
      const double share = std::exp(p[1] - p[2] * logs.x[i] - total);  // of the reducible part in the loss
      const Eigen::Vector3d by{1 - share, share, -share * logs.x[i]};
      const double weight = std::abs(r) <= threshold ? 1 : threshold / std::abs(r);
      squares += weight * by * by.transpose();
      slope += weight * r * by;
    }
    const Eigen::Matrix3d damped =
        squares + damping * (Eigen::Matrix3d(squares.diagonal().asDiagonal()) + 1e-12 * Eigen::Matrix3d::Identity());
    const Parameters next = p - damped.ldlt().solve(slope);
    const double then = objective(next, logs, threshold);
    if (std::isfinite(then) && then < now) {
      const bool settled = now - then < 1e-15 * now;
      p = next;
      now = then;
      damping = std::max(damping / 3, 1e-12);
      if (settled) break;
    } else {
      damping *= 4;
    }
  }
  return p;
}

}  // namespace

double SaturatingLaw::at(double compute) const { return irreducible + factor * std::pow(compute, exponent); }

std::optional<SaturatingLaw> fit_saturating_law(const Points& points, double threshold) {
  require_positive(points);
  std::set<double> different;
  for (const auto& [compute, loss] : points) different.insert(compute);
  if (different.size() < 3) {
    refuse("scaling law: {} different amounts of compute: a law with an irreducible part needs at least 3",
           different.size());
  }
  const Logs logs = logs_of(points);
  const double least = *std::min_element(logs.y.begin(), logs.y.end());
  SaturatingLaw best;
  best.objective = std::numeric_limits<double>::infinity();
  for (const double share : {0.02, 0.3, 0.6, 0.9, 0.98}) {
    for (const double rate : {0.02, 0.05, 0.1, 0.2, 0.4, 0.8}) {
      const Parameters start{least + std::log(share), least + std::log1p(-share), rate};
      const Parameters p = descend(start, logs, threshold);
      const double found = objective(p, logs, threshold);
      if (found >= best.objective || p[2] <= 0) continue;
      best = {std::exp(p[0]), std::exp(p[1] + p[2] * logs.middle), -p[2], found};
    }
  }
  if (!std::isfinite(best.objective)) return {};
  return best;
}

double compute_ratio(const PowerLaw& reference, const PowerLaw& other, double loss) {
  const auto compute = [&](const PowerLaw& law) { return std::pow(loss / law.factor, 1 / law.exponent); };
  return compute(reference) / compute(other);
}

Points points_of(const ScalingCurve& curve) {
  Points points;
  for (const SizeRuns& runs : curve) points.insert(points.end(), runs.begin(), runs.end());
  return points;
}

namespace {

Points resampled(const ScalingCurve& curve, Random& random) {
  Points points;
  for (const SizeRuns& runs : curve) {
    for (size_t i = 0; i < runs.size(); ++i) points.push_back(runs[random.below(runs.size())]);
  }
  return points;
}

Interval losses_of(const Points& points) {
  Interval range{points.front().second, points.front().second};
  for (const auto& [compute, loss] : points) {
    range.low = std::min(range.low, loss);
    range.high = std::max(range.high, loss);
  }
  return range;
}

Bootstrapped bootstrapped(double value, std::vector<double> draws) {
  std::sort(draws.begin(), draws.end());
  const auto quantile = [&](double q) { return draws[static_cast<size_t>(q * static_cast<double>(draws.size() - 1))]; };
  return {value, {quantile(0.025), quantile(0.975)}};
}

// A power law through every resample; curves with different `stream` are drawn apart.
std::vector<PowerLaw> resampled_laws(const ScalingCurve& curve, int64_t resamples, uint64_t seed, uint64_t stream) {
  std::vector<PowerLaw> laws;
  for (int64_t draw = 0; draw < resamples; ++draw) {
    Random random{seed, stream, static_cast<uint64_t>(draw)};
    laws.push_back(fit_power_law(resampled(curve, random)));
  }
  return laws;
}

// The points of a curve that a line can be fitted to.
Points require_line(const ScalingCurve& curve) {
  Points points = points_of(curve);
  require_positive(points);
  const auto other = [&](const auto& point) { return point.first != points.front().first; };
  if (std::none_of(points.begin(), points.end(), other)) {
    refuse("scaling law: fewer than two different amounts of compute");
  }
  return points;
}

}  // namespace

ScalingFit fit_scaling(const ScalingCurve& curve, int64_t resamples, uint64_t seed) {
  const PowerLaw law = fit_power_law(require_line(curve));
  std::vector<double> exponents;
  for (const PowerLaw& one : resampled_laws(curve, resamples, seed, 0)) exponents.push_back(one.exponent);
  return {law, bootstrapped(law.exponent, exponents)};
}

std::optional<ScalingComparison> compare_scaling(const ScalingCurve& reference, const ScalingCurve& other,
                                                 int64_t resamples, uint64_t seed) {
  const Points of_reference = require_line(reference), of_other = require_line(other);
  const Interval a = losses_of(of_reference), b = losses_of(of_other);
  const double low = std::max(a.low, b.low), high = std::min(a.high, b.high);
  if (low > high) return {};
  ScalingComparison result{fit_power_law(of_reference), fit_power_law(of_other), {}, std::sqrt(low * high)};
  const std::vector<PowerLaw> ones = resampled_laws(reference, resamples, seed, 0),
                              others = resampled_laws(other, resamples, seed, 1);
  std::vector<double> ratios;
  for (size_t i = 0; i < ones.size(); ++i) ratios.push_back(compute_ratio(ones[i], others[i], result.loss));
  result.ratio = bootstrapped(compute_ratio(result.reference, result.other, result.loss), ratios);
  return result;
}

}  // namespace klab
