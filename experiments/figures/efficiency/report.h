// SPDX-License-Identifier: Apache-2.0
// The values of the report's figures 1b and 7, and plots that compare them with measurements.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "experiments/figures/efficiency/stack.h"
#include "experiments/study/reproduction.h"

namespace klab {

/// Curves of the report by name, with values at 4K, 8K, .. 1M tokens (read off the figure to about a tenth of a unit).
using ReportedCurves = std::map<std::string, std::vector<double>>;
const ReportedCurves& reported_prefill_seconds();
const ReportedCurves& reported_tpot_ms();          ///< figure 7b: one sequence
const ReportedCurves& reported_batched_tpot_ms();  ///< figure 1b: the largest batch that fits

/// 4K, 8K, .. 1M.
std::vector<int64_t> report_lengths();

/// A curve of a plot, x in tokens.
struct EfficiencyCurve {
  std::string name;
  std::vector<std::pair<double, double>> points;
  enum class Style { measured, extrapolated, reported } style;
  int colour;  ///< 1, 2, 3
};

/// Plots curves over the length with logarithmic axes.
void draw_curves(const std::string& out, const std::string& title, const std::string& y,
                 const std::vector<EfficiencyCurve>& curves);

/// Estimated seconds of 27 layers of the 48B shape of this kind (for decode including the head), from fitted rates.
double whole_model_seconds(const StackKind& kind, const std::string& phase, int64_t batch, int64_t tokens,
                           const Rates& rates);

/// "weights 40.1 GB/s, attention 180 GFLOP/s; largest error of the fit 5 %".
std::string describe(const Rates& rates);

/// Measurements, fits and page of a figure.
struct EfficiencyResults {
  std::string command;  ///< command of the measurement
  std::vector<Measured> measured;
  Rates prefill, decode;  ///< each fitted to its own phase
  const Rates& of(const std::string& phase) const { return phase == "prefill" ? prefill : decode; }
  std::vector<std::vector<std::string>> extrapolated;  ///< rows: stack, phase, tokens, batch, seconds
  std::vector<std::string> page;                       ///< lines
};
/// Reads the measurements of an earlier call from the folder, and their command. Throws Error.
std::vector<Measured> read_measured(const ReproduceOptions& options, std::string& command);

/// Writes measured.csv, extrapolated.csv and page.md into the folder.
void write_results(const ReproduceOptions& options, const EfficiencyResults& results);

}  // namespace klab
