// SPDX-License-Identifier: Apache-2.0
// Numbers of seeds that would show a difference.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "experiments/study/survival.h"

namespace klab {

constexpr int64_t kMostSeeds = 200;

/// The number of seeds each, at most kMostSeeds, with which a two-sided test at `level` would find the observed
/// difference with a power of 80 %; none if there is none. Bisection, as power is not quite monotone in the number.
///
/// Means and times: simulated with values drawn from the smoothed samples with their means and variances (Silverman and
/// Young 1987); by the permutation test up to 6 seeds (10 pairs), beyond that by Student's t test, which approximates
/// it. Shares: exact, for Fisher's test at the shares (k + 1/2) / (n + 1), so that 3 of 3 against 0 of 3 are not
/// certain.
///
/// Few observed seeds determine these numbers roughly: if 17 seeds are needed, half of the numbers found from 5 normal
/// values each are between 8 and 49, and from 10 each between 10 and 31.
std::optional<int64_t> seeds_for_means(const std::vector<double>& x, const std::vector<double>& y, double level);
std::optional<int64_t> seeds_for_pairs(const std::vector<double>& x, const std::vector<double>& y, double level);
std::optional<int64_t> seeds_for_shares(const Share& x, const Share& y, double level);
std::optional<int64_t> seeds_for_times(const std::vector<Time>& x, const std::vector<Time>& y, double level);

}  // namespace klab
