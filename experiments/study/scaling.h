// SPDX-License-Identifier: Apache-2.0
// Scaling laws: loss over compute, with and without an irreducible part, and what a difference is worth in compute.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "experiments/study/statistics.h"

namespace klab {

/// (compute, loss) of the runs of one size that differ in their seed. Compute and loss are positive.
using SizeRuns = std::vector<std::pair<double, double>>;
/// The sizes of one architecture.
using ScalingCurve = std::vector<SizeRuns>;

/// The runs of all sizes.
std::vector<std::pair<double, double>> points_of(const ScalingCurve& curve);

/// loss = irreducible + factor compute^exponent, the exponent negative.
struct SaturatingLaw {
  double irreducible = 0, factor = 0, exponent = 0;
  double objective = 0;  ///< the sum of Huber losses at the fit

  double at(double compute) const;
};

/// Minimises the sum of Huber losses of log(law) - log(loss) (Hoffmann et al. 2022, arXiv 2203.15556: threshold 1e-3),
/// from several starts; none if the loss does not decrease with compute. Throws UsageError for fewer than three
/// different amounts of compute.
std::optional<SaturatingLaw> fit_saturating_law(const std::vector<std::pair<double, double>>& points,
                                                double threshold = 1e-3);

/// How many times the compute of `other` the architecture `reference` needs for the same loss.
double compute_ratio(const PowerLaw& reference, const PowerLaw& other, double loss);

/// A number with the 95 % interval of its bootstrap distribution.
struct Bootstrapped {
  double value = 0;
  Interval interval;
};

/// The law without an irreducible part and its exponent's interval.
struct ScalingFit {
  PowerLaw law;  ///< of all points
  Bootstrapped exponent;

  /// Whether the loss decreases with compute in at least 97.5 % of the resamples.
  bool decreases() const { return exponent.interval.high < 0; }
};

/// Fits the curve, and fits it again to `resamples` resamples, in which every size draws as many of its runs with
/// replacement. The interval covers the variation between seeds only, not that between sizes; with one seed it has no
/// width. Throws UsageError for fewer than two different amounts of compute.
ScalingFit fit_scaling(const ScalingCurve& curve, int64_t resamples = 2000, uint64_t seed = 1);

struct ScalingComparison {
  PowerLaw reference, other;  ///< of all points
  Bootstrapped ratio;         ///< compute_ratio() at `loss`
  double loss = 0;            ///< a loss that both curves reach: the geometric mean of the common range
};

/// Fits both curves, and both again to resamples drawn apart; none if the curves have no loss in common. Throws
/// UsageError like fit_scaling().
std::optional<ScalingComparison> compare_scaling(const ScalingCurve& reference, const ScalingCurve& other,
                                                 int64_t resamples = 2000, uint64_t seed = 1);

}  // namespace klab
