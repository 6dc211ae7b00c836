// SPDX-License-Identifier: Apache-2.0
#include "experiments/capacity/theory.h"

#include <algorithm>
#include <cmath>

namespace klab {
namespace {

constexpr int64_t kIntervals = 4000;  // of the table of UnitVectorCoordinate
constexpr int kNodes = 17;            // of the integrals over normal distributions
constexpr size_t kAges = 16;          // ages of pairs at which the probability is evaluated

// The mean of f(z) for standard normal z, by the trapezoidal rule.
template <class F>
double mean_over_normal(const F& f) {
  constexpr double kEnd = 4.5;
  double sum = 0, weights = 0;
  for (int i = 0; i < kNodes; ++i) {
    const double z = kEnd * (2.0 * i / (kNodes - 1) - 1), weight = std::exp(-z * z / 2);
    sum += weight * f(z);
    weights += weight;
  }
  return sum / weights;
}

}  // namespace

UnitVectorCoordinate::UnitVectorCoordinate(int64_t dim) : below_(kIntervals + 1, 0) {
  const double exponent = (static_cast<double>(dim) - 3) / 2;
  for (int64_t i = 1; i <= kIntervals; ++i) {
    const double t = (2.0 * static_cast<double>(i) - 1) / kIntervals - 1;  // the middle of the interval
    below_[static_cast<size_t>(i)] = below_[static_cast<size_t>(i - 1)] + std::pow(1 - t * t, exponent);
  }
  for (double& value : below_) value /= below_.back();
}

double UnitVectorCoordinate::below(double t) const {
  if (t <= -1) return 0;
  if (t >= 1) return 1;
  const double at = (t + 1) / 2 * kIntervals;
  const auto i = static_cast<size_t>(at);
  return below_[i] + (at - static_cast<double>(i)) * (below_[i + 1] - below_[i]);
}

std::vector<ReadMoments> read_moments(double alpha, double erase, int64_t pairs, int64_t key_dim) {
  const auto K = static_cast<double>(key_dim);
  const double rho = 1 - erase * (2 - erase) / K, per_write = alpha * alpha * rho;
  std::vector<double> sums(static_cast<size_t>(pairs), 0);  // of per_write^0 .. per_write^(i-1)
  for (size_t i = 1; i < sums.size(); ++i) sums[i] = 1 + per_write * sums[i - 1];
  std::vector<ReadMoments> moments(sums.size());
  double signal = 1, decay = 1, r = 1, q = 1;  // r, q: E |x|^2 and E (x^T k_i)^2 without decay; decay: alpha^(2m)
  for (size_t m = 0; m < sums.size(); ++m) {
    const size_t i = sums.size() - 1 - m;  // pairs before it
    const double before = alpha * alpha * decay * (r - erase * (2 - erase) * q) * sums[i] / K, after = sums[m] / K;
    moments[i] = {signal, std::max(0.0, decay * q - signal * signal), before + after};
    q += -2 * erase * q / K + erase * erase * (r + 2 * q) / (K * (K + 2));
    r *= rho;
    decay *= alpha * alpha;
    signal *= alpha * (1 - erase / K);
  }
  return moments;
}

ReadMoments least_squares_moments(int64_t pairs, int64_t key_dim) {
  const auto n = static_cast<double>(pairs), K = static_cast<double>(key_dim);
  const double mean = K / n, variance = 2 * K * (n - K) / (n * n * (n + 2));
  return {mean, variance, mean - mean * mean - variance};
}

double recall_probability(const ReadMoments& read, int64_t others, const UnitVectorCoordinate& coordinate,
                          int64_t value_dim, int64_t vocabulary) {
  const auto V = static_cast<double>(value_dim), M = static_cast<double>(vocabulary), n = static_cast<double>(others);
  if (others == 0) return 1;
  const double unstored = std::pow(1 - 1 / M, n);  // share of the values that no other pair has
  const double stored_deviation = std::sqrt(read.noise / M / (1 - unstored));
  const double deviation = std::sqrt(read.variance + read.noise / V);
  const double spread = 2.0 / 9 * (1 / (V - 1) + 1 / n);
  return mean_over_normal([&](double z) {
    const double right = read.signal + deviation * z;
    return mean_over_normal([&](double y) {
      // A chi-squared variable over its mean, by Wilson and Hilferty (1931).
      const double chi = std::pow(std::max(0.0, 1 - spread + y * std::sqrt(spread)), 3);
      const double across = std::sqrt(read.noise * (V - 1) / V * chi);
      const auto beats = [&](double lead) {
        return coordinate.below(lead / std::max(1e-12, std::hypot(lead, across)));
      };
      const double beats_stored = mean_over_normal([&](double w) { return beats(right - stored_deviation * w); });
      return std::pow(beats(right), (M - 1) * unstored) * std::pow(beats_stored, (M - 1) * (1 - unstored));
    });
  });
}

double expected_recovered(double alpha, double erase, int64_t pairs, int64_t key_dim, int64_t vocabulary) {
  const UnitVectorCoordinate coordinate(key_dim);
  const std::vector<ReadMoments> reads = read_moments(alpha, erase, pairs, key_dim);
  // The probability changes slowly with the age of a pair: some ages, in the middle of equal intervals.
  const size_t ages = std::min<size_t>(kAges, reads.size());
  double sum = 0;
  for (size_t i = 0; i < ages; ++i) {
    sum +=
        recall_probability(reads[(2 * i + 1) * reads.size() / (2 * ages)], pairs - 1, coordinate, key_dim, vocabulary);
  }
  return sum / static_cast<double>(ages);
}

double expected_recovered_by_least_squares(int64_t pairs, int64_t key_dim, int64_t vocabulary) {
  if (pairs <= key_dim) return 1;
  return recall_probability(least_squares_moments(pairs, key_dim), pairs - 1, UnitVectorCoordinate(key_dim), key_dim,
                            vocabulary);
}

}  // namespace klab
