// A comparison of trained models: a search for the learning rate of each, then runs with fresh seeds at the best one.
#pragma once

#include <string>
#include <vector>

#include "experiments/study/reproduction.h"
#include "experiments/study/summary.h"

namespace klab {

struct Study {
  std::vector<RunSummary> search, measured;  ///< one seed at every learning rate; fresh seeds at the best one
  bool out_of_time = false;                  ///< some runs are missing: the same command continues
};

struct StudyPlan {
  std::string figure;              ///< the folder under experiments/figures/ with SCALE.yaml
  std::vector<std::string> cells;  ///< keys: each combination of their values gets its own learning rate
  std::string metric;              ///< that chooses the learning rate
  int64_t seeds = 3;               ///< fresh ones
};

/// Runs experiments/figures/FIGURE/SCALE.yaml, then the best run of each cell again with seeds that the search has not
/// seen: results on the search's own seed would be biased by the choice. Works in OUT/runs-SCALE/, continues there, and
/// leaves search.csv, results.csv, curves.csv and evaluations.csv in OUT. Throws Error when a run failed for another
/// reason than diverging.
Study run_study(const StudyPlan& plan, const ReproduceOptions& options);

/// The metric of every run whose config has these values.
struct CellKey {
  std::string key;
  Value value;
};
std::vector<double> metric_of_cell(const std::vector<RunSummary>& runs, const std::vector<CellKey>& cell,
                                   const std::string& metric);
/// Values of a key among runs, in their order of appearance; numbers rising.
std::vector<Value> values_of_key(const std::vector<RunSummary>& runs, const std::string& key);

/// "98.4 ± 1.2" in percent; "-" where there is nothing.
std::string percent(const std::vector<double>& shares);

/// "held", "reversed" or "not decided": whether x exceeds y, by the 95 % interval of the difference.
std::string verdict(const std::vector<double>& x, const std::vector<double>& y);

/// "0.12 [0.03, 0.21]".
std::string difference(const std::vector<double>& x, const std::vector<double>& y);

/// Writes page.md.
void write_page(const ReproduceOptions& options, const std::vector<std::string>& lines);

}  // namespace klab
