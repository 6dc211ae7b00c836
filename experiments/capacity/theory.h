// SPDX-License-Identifier: Apache-2.0
// The expected share of recovered pairs, for random pairs that are each written once.
//
// A memory that is linear in the values returns o = sum_j w_j v_j for a key: the signal w_i v_i and the noise of the
// other pairs. For correlation matrix memories (S = sum k v^T: Anderson, Math. Biosciences 14, 1972; Kohonen, IEEE
// Trans. Computers C-21, 1972) w_i = 1, and each other weight k_i^T k_j has mean 0 and variance 1 / K: the noise grows
// as (n - 1) / K. Schlag, Irie and Schmidhuber (arXiv 2102.11174, section 4.1) give the bound for recall without error:
// K independent keys.
#pragma once

#include <cstdint>
#include <vector>

namespace klab {

/// Moments of the weights w_j of one pair.
struct ReadMoments {
  double signal;    ///< mean of w_i
  double variance;  ///< of w_i
  double noise;     ///< sum over the other pairs of the mean of w_j^2
};

/// The distribution of one coordinate of a uniform unit vector with `dim` >= 4 coordinates: density proportional to
/// (1 - t^2)^((dim - 3) / 2).
class UnitVectorCoordinate {
 public:
  explicit UnitVectorCoordinate(int64_t dim);
  /// The probability of a coordinate below t.
  double below(double t) const;

 private:
  std::vector<double> below_;  // on equidistant points of [-1, 1]
};

/// Moments of the reads of all `pairs` pairs, the oldest first, after
///
///     S = A_t S + k_t v_t^T,    A_t = alpha (I - e k_t k_t^T),
///
/// with keys that are uniform on the unit sphere. They are exact, because the keys are independent: with m writes after
/// pair i, x = (A_n ... A_(i+1))^T k_i has
///
///     E x^T k_i = alpha^m (1 - e / K)^m,    E |x|^2 = alpha^(2m) rho^m,    rho = 1 - e (2 - e) / K,
///
/// and E (x^T k_i)^2 = alpha^(2m) q_m with q_(m+1) = q_m - 2 e q_m / K + e^2 (rho^m + 2 q_m) / (K (K + 2)), by the
/// fourth moments of a uniform unit vector. A later pair j has E w_j^2 = (alpha^2 rho)^(n - j) / K. For an earlier
/// pair, A_i has erased along k_i: E w_j^2 = alpha^(2m + 2) (rho^m - e (2 - e) q_m) (alpha^2 rho)^(i - 1 - j) / K.
std::vector<ReadMoments> read_moments(double alpha, double erase, int64_t pairs, int64_t key_dim);

/// Moments of the reads of least-squares states with more pairs than channels. w is a row of a random projection onto
/// K of n dimensions: w_i has a Beta(K / 2, (n - K) / 2) distribution, and the sum of all w_j^2 is w_i.
ReadMoments least_squares_moments(int64_t pairs, int64_t key_dim);

/// The probability that the right value has the largest inner product with o among `vocabulary` random unit vectors of
/// `value_dim` channels. The weights of the other `others` pairs are taken as Gaussian and equal. With r = o^T v_i and
/// the length a of o across v_i, whose square is then a scaled chi-squared variable, a random vector loses against v_i
/// with probability P(t < r / sqrt(r^2 + a^2)), t as in UnitVectorCoordinate; if other pairs have it as their value,
/// with the sum w of their weights, r - w replaces r.
double recall_probability(const ReadMoments& read, int64_t others, const UnitVectorCoordinate& coordinate,
                          int64_t value_dim, int64_t vocabulary);

/// The mean of that probability over the ages of the pairs; V = K.
double expected_recovered(double alpha, double erase, int64_t pairs, int64_t key_dim, int64_t vocabulary);
double expected_recovered_by_least_squares(int64_t pairs, int64_t key_dim, int64_t vocabulary);

}  // namespace klab
