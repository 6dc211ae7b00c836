// What the report's figures 1b and 7 show, and how ours are drawn beside them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "experiments/figures/efficiency/stack.h"
#include "experiments/study/reproduction.h"

namespace klab {

/// A curve of the report: its name here, and values at 4K, 8K, .. 1M tokens (read off to about a tenth of a unit).
using ReportedCurves = std::map<std::string, std::vector<double>>;
const ReportedCurves& reported_prefill_seconds();
const ReportedCurves& reported_tpot_ms();          ///< figure 7b: one sequence
const ReportedCurves& reported_batched_tpot_ms();  ///< figure 1b: the largest batch that fits

/// 4K, 8K, .. 1M.
std::vector<int64_t> report_lengths();

/// A curve of a picture, x in tokens.
struct EfficiencyCurve {
  std::string name;
  std::vector<std::pair<double, double>> points;
  enum class Style { measured, extrapolated, reported } style;
  int colour;  ///< 1, 2, 3
};

/// Draws curves over the length, both axes logarithmic.
void draw_curves(const std::string& out, const std::string& title, const std::string& y,
                 const std::vector<EfficiencyCurve>& curves);

/// Seconds of the 27 layers of the 48B model (its head included when decoding), or of 27 layers of another kind, by
/// the rates measured here.
double whole_model_seconds(const StackKind& kind, const std::string& phase, int64_t batch, int64_t tokens,
                           const Rates& rates);

/// "weights 40.1 GB/s, attention 180 GFLOP/s; largest error of the fit 5 %".
std::string describe(const Rates& rates);

/// Writes measured.csv, extrapolated.csv and page.md into the folder.
struct EfficiencyResults {
  std::string command;  ///< that measured
  std::vector<Measured> measured;
  Rates prefill, decode;  ///< each fitted to its own phase
  const Rates& of(const std::string& phase) const { return phase == "prefill" ? prefill : decode; }
  std::vector<std::vector<std::string>> extrapolated;  ///< rows: stack, phase, tokens, batch, seconds
  std::vector<std::string> page;                       ///< lines
};
/// The measurements that an earlier call has left in the folder, and the command that made them. Throws Error.
std::vector<Measured> read_measured(const ReproduceOptions& options, std::string& command);

void write_results(const ReproduceOptions& options, const EfficiencyResults& results);

}  // namespace klab
