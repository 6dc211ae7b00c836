// SPDX-License-Identifier: Apache-2.0
// The capacity of update rules without training: random pairs, constant gates.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/csv.h"
#include "experiments/capacity/pairs.h"
#include "experiments/capacity/update_rule.h"

namespace klab {

struct UntrainedOptions {
  std::string mixer;                           ///< empty: all update rules; else the mixer's rule and its special cases
  std::vector<int64_t> widths = {16, 32, 64};  ///< of keys and values
  std::vector<double> loads = {0.125, 0.25, 0.375, 0.5, 0.75, 1, 1.5, 2, 3};  ///< pairs per key channel
  uint64_t seed = 1;
  bool quiet = false;
};

/// The share of pairs recovered by one update rule.
struct CapacityPoint {
  std::string update, mixers;
  Scenario scenario;
  int64_t key_dim, pairs;
  double recovered;
  std::optional<double> theory;        ///< plain pairs and at most one decay
  std::optional<ConstantGates> gates;  ///< the chosen ones; none for least squares
  int64_t trials;                      ///< independent draws behind `recovered`
};

enum class Purpose : uint64_t { search, report };

/// Identifies the draws of a cell of the measurement: other ones for the search of gates than for the report.
uint64_t cell_key(Purpose purpose, Scenario scenario, int64_t key_dim, int64_t pairs, uint64_t seed);

/// One point per scenario, width, load and update rule, and one for least squares. The gates are chosen on other draws
/// than those that are reported. Cells run in parallel,
/// one thread each, so the points do not depend on the number of threads. Throws UsageError for an unknown mixer,
/// widths outside 4 to 256, and loads above 16.
std::vector<CapacityPoint> measure_untrained(const UntrainedOptions& options);

/// Columns update, key_dim, pairs, recovered, scenario, theory, ...
CsvTable table_of(const std::vector<CapacityPoint>& points);

/// The number of pairs up to which at least `share` of the pairs is recovered, linearly interpolated between the
/// measured numbers: "13.4"; "< 2" or ">= 48" if it is outside of them. `points` are of one rule, scenario and width,
/// in the order of pairs.
std::string pairs_at(const std::vector<CapacityPoint>& points, double share);

/// One table for each scenario: pairs at 99 % for each update rule and width.
std::string summary_of(const std::vector<CapacityPoint>& points);

/// Draws the shares over pairs per key channel for the largest width, a panel per scenario, to a PNG file.
void draw_untrained(const std::vector<CapacityPoint>& points, const std::string& out);

}  // namespace klab
