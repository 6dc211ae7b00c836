// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/power.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/base/random.h"
#include "experiments/study/permutation.h"

namespace klab {
namespace {

constexpr double kPower = 0.8;
constexpr uint64_t kDataSets = 500, kPowerSeed = 20;
constexpr int64_t kExactSeeds = 6, kExactPairs = 10;

// Draws values with the mean and the variance of a sample: its values, moved by a triangular kernel.
class Smoothed {
 public:
  explicit Smoothed(const std::vector<double>& values) : values_(values), mean_(mean_of(values)) {
    const auto n = static_cast<double>(values.size());
    const double variance = values.size() > 1 ? variance_of(values) : 0, width = std::pow(n, -0.2);
    scale_ = 1 / std::sqrt((n - 1) / n + width * width);
    kernel_ = width * std::sqrt(6 * variance);
  }
  double draw(Random& random) const {
    const double value = values_[random.below(values_.size())];
    const double noise = kernel_ * (random.uniform() + random.uniform() - 1);
    return mean_ + scale_ * (value - mean_ + noise);
  }

 private:
  std::vector<double> values_;
  double mean_, scale_ = 1, kernel_ = 0;
};

std::vector<double> draw_values(const Smoothed& from, int64_t count, Random random) {
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = from.draw(random);
  return values;
}

// The end of observation: the last time, or none if nothing was censored.
double observation_end(const std::vector<Time>& x, const std::vector<Time>& y) {
  double last = 0;
  bool censored = false;
  for (const auto* times : {&x, &y}) {
    for (const Time& time : *times) {
      last = std::max(last, time.value);
      censored = censored || !time.reached;
    }
  }
  return censored ? last : std::numeric_limits<double>::infinity();
}

// Draws times: reached with the smoothed share if any was censored, then at a smoothed time before the end.
class SmoothedTimes {
 public:
  SmoothedTimes(const std::vector<Time>& times, double end) : end_(end), reached_(reached_values(times, end)) {
    const auto reached = std::count_if(times.begin(), times.end(), [](const Time& time) { return time.reached; });
    if (std::isfinite(end)) share_ = (static_cast<double>(reached) + 0.5) / (static_cast<double>(times.size()) + 1);
  }
  Time draw(Random& random) const {
    const bool reached = random.uniform() < share_;
    const double value = reached_.draw(random);
    if (!reached || value > end_) return {end_, false};
    return {std::max(value, 0.0), true};
  }

 private:
  static Smoothed reached_values(const std::vector<Time>& times, double end) {
    std::vector<double> values;
    for (const Time& time : times) {
      if (time.reached) values.push_back(time.value);
    }
    return Smoothed(values.empty() ? std::vector<double>{end} : values);
  }

  double end_, share_ = 1;
  Smoothed reached_;
};

std::vector<Time> draw_times(const SmoothedTimes& from, int64_t count, Random random) {
  std::vector<Time> times;
  for (int64_t i = 0; i < count; ++i) times.push_back(from.draw(random));
  return times;
}

// Two-sided tests at a level that also find the sign of the difference.
class SignedTest {
 public:
  SignedTest(double level, double sign, double freedom)
      : level_(level * (1 + 1e-9)), sign_(sign), t_(quantile(boost::math::students_t(freedom), 1 - level / 2)) {}

  bool permutation(const PermutationTest& test) const {
    return test.difference() * sign_ > 0 && test.p_two_sided() <= level_;
  }
  bool student(double difference, double squared_error) const {
    return difference * sign_ > 0 && difference * difference >= t_ * t_ * squared_error;
  }

 private:
  double level_, sign_, t_;
};

bool decides_means(const std::vector<double>& x, const std::vector<double>& y, const SignedTest& test) {
  const auto n = static_cast<int64_t>(x.size());
  if (n <= kExactSeeds) return test.permutation(PermutationTest::two_sample(x, y));
  return test.student(mean_of(x) - mean_of(y), (variance_of(x) + variance_of(y)) / static_cast<double>(n));
}

bool decides_pairs(const std::vector<double>& x, const SignedTest& test) {
  const auto n = static_cast<int64_t>(x.size());
  if (n <= kExactPairs) return test.permutation(PermutationTest::paired(x, std::vector<double>(x.size())));
  return test.student(mean_of(x), variance_of(x) / static_cast<double>(n));
}

// The share of data sets that are decided.
template <class Decides>
double simulated_power(const Decides& decides) {
  int64_t count = 0;
  for (uint64_t i = 0; i < kDataSets; ++i) count += decides(i);
  return static_cast<double>(count) / static_cast<double>(kDataSets);
}

template <class Power>
std::optional<int64_t> least_seeds(const Power& power) {
  if (power(kMostSeeds) < kPower) return std::nullopt;
  int64_t low = 1, high = kMostSeeds;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (power(middle) < kPower ? low : high) = middle;
  }
  return high;
}

std::vector<double> log_factorials() {
  std::vector<double> logs{0};
  for (int64_t i = 1; i <= 2 * kMostSeeds; ++i) logs.push_back(logs.back() + std::log(static_cast<double>(i)));
  return logs;
}

double log_choose(int64_t n, int64_t k) {
  static const std::vector<double> logs = log_factorials();
  return logs[static_cast<size_t>(n)] - logs[static_cast<size_t>(k)] - logs[static_cast<size_t>(n - k)];
}

// The probabilities of 0 to n successes.
std::vector<double> binomial_probabilities(int64_t n, double p) {
  std::vector<double> result;
  for (int64_t k = 0; k <= n; ++k) {
    const auto successes = static_cast<double>(k), failures = static_cast<double>(n - k);
    result.push_back(std::exp(log_choose(n, k) + successes * std::log(p) + failures * std::log1p(-p)));
  }
  return result;
}

// The least number of successes among n, of `all` among 2n, with a two-sided Fisher p of at most `level` for many; with
// equal numbers of trials it is twice the one-sided one.
int64_t critical_successes(int64_t n, int64_t all, double level) {
  const int64_t most = std::min(n, all);
  double tail = 0;
  int64_t k = most;
  for (; 2 * k > all; --k) {
    tail += std::exp(log_choose(n, k) + log_choose(n, all - k) - log_choose(2 * n, all));
    if (2 * tail > level * (1 + 1e-9)) break;
  }
  return k + 1;
}

// The probability that Fisher's test finds that p is above q.
double fisher_power(int64_t n, double p, double q, double level) {
  const std::vector<double> x = binomial_probabilities(n, p), y = binomial_probabilities(n, q);
  double power = 0;
  for (int64_t all = 1; all < 2 * n; ++all) {
    for (int64_t k = critical_successes(n, all, level); k <= std::min(n, all); ++k) {
      power += x[static_cast<size_t>(k)] * y[static_cast<size_t>(all - k)];
    }
  }
  return power;
}

}  // namespace

std::optional<int64_t> seeds_for_means(const std::vector<double>& x, const std::vector<double>& y, double level) {
  const double difference = mean_of(x) - mean_of(y);
  const Smoothed from_x(x), from_y(y);
  if (difference == 0) return std::nullopt;
  return least_seeds([&](int64_t n) {
    const SignedTest test(level, difference, static_cast<double>(2 * n - 2));
    return simulated_power([&](uint64_t i) {
      const Random of_x{kPowerSeed, i, 0}, of_y{kPowerSeed, i, 1};
      return decides_means(draw_values(from_x, n, of_x), draw_values(from_y, n, of_y), test);
    });
  });
}

std::optional<int64_t> seeds_for_pairs(const std::vector<double>& x, const std::vector<double>& y, double level) {
  std::vector<double> differences(x.size());
  std::transform(x.begin(), x.end(), y.begin(), differences.begin(), std::minus<>());
  const double difference = mean_of(differences);
  const Smoothed from(differences);
  if (difference == 0) return std::nullopt;
  return least_seeds([&](int64_t n) {
    const SignedTest test(level, difference, static_cast<double>(n - 1));
    return simulated_power([&](uint64_t i) {
      return decides_pairs(draw_values(from, n, Random{kPowerSeed, i}), test);
    });
  });
}

std::optional<int64_t> seeds_for_shares(const Share& x, const Share& y, double level) {
  const auto smoothed = [](const Share& share) {
    return (static_cast<double>(share.successes) + 0.5) / (static_cast<double>(share.trials) + 1);
  };
  const double p = smoothed(x), q = smoothed(y);
  if (x.successes * y.trials == y.successes * x.trials) return std::nullopt;
  return least_seeds([&](int64_t n) { return fisher_power(n, std::max(p, q), std::min(p, q), level); });
}

std::optional<int64_t> seeds_for_times(const std::vector<Time>& x, const std::vector<Time>& y, double level) {
  const LogRankScores observed = log_rank_scores(x, y);
  const double difference = mean_of(observed.x) - mean_of(observed.y), end = observation_end(x, y);
  const SmoothedTimes from_x(x, end), from_y(y, end);
  if (difference == 0) return std::nullopt;
  return least_seeds([&](int64_t n) {
    const SignedTest test(level, difference, static_cast<double>(2 * n - 2));
    return simulated_power([&](uint64_t i) {
      const Random of_x{kPowerSeed, i, 0}, of_y{kPowerSeed, i, 1};
      const LogRankScores scores = log_rank_scores(draw_times(from_x, n, of_x), draw_times(from_y, n, of_y));
      return decides_means(scores.x, scores.y, test);
    });
  });
}

}  // namespace klab
