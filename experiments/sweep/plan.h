// What a sweep is made of: the file that people write, and the plan that its workers read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "experiments/run_config.h"

namespace klab {

/// Successive halving: at each of these steps a run goes on only while it is among the best 1/factor of those that came
/// before it in the plan and got so far. The verdicts do not depend on who was faster, so a sweep has one outcome.
struct Halving {
  std::string metric = "acc_seq";  ///< a column of metrics.csv, on the held-out stream
  bool larger_is_better = true;
  int64_t factor = 3;
  std::vector<int64_t> steps;       ///< rising
  std::vector<std::string> within;  ///< only runs that agree in these keys are held against one another
};

struct PlannedRun {
  std::string id;                   ///< hash of the whole config, and the name of the run's folder
  std::vector<std::string> values;  ///< of Plan::keys
  std::string group;                ///< runs of one group are held against one another
  int64_t place = 0;                ///< among the runs as the file names them
  int64_t steps = 0;
  double tokens = 0;  ///< of all steps
};

/// Everything about a sweep but the configs, which stand in the runs' folders.
struct Plan {
  std::string name;               ///< of the sweep's file, without folder and ending
  std::vector<std::string> keys;  ///< in which the runs differ
  std::vector<PlannedRun> runs;   ///< distinct; in the order in which they are started: by id where there is halving
  int64_t asked = 0;              ///< runs that the file names, identical ones included
  int64_t threads = 1;            ///< of each run; part of what makes its bits
  std::optional<Halving> halving;

  size_t key(const std::string& wanted) const;  ///< position; keys.size() when runs do not differ in it
  std::vector<size_t> in_file_order() const;    ///< positions of the runs
};

struct Sweep {
  Plan plan;
  std::vector<RunConfig> configs;  ///< of plan.runs
};

/// Reads a sweep file:
///
///     base: {..}                      config keys that all runs share; may say `extends: other.yaml`
///     grid: {key: [value, ..], ..}    every combination
///     seeds: [1, 2, 3]                the same as an innermost axis train.seed
///     random: {runs: 20, seed: 1, key: {log_uniform: [1e-4, 1e-2]}, ..}     also uniform, integer, choice; the same
///                                     draws for every point of the grid
///     conditions: [{when: {key: value}, set: {..}, grid: {..}, skip: true}, ..]   for the runs that `when` fits
///     halving: {metric: acc_seq, steps: [500, 1000], factor: 3, within: [model.pattern]}
///
/// Throws UsageError, with file and line, for whatever makes no sense, a run's config included.
Sweep read_sweep(const std::string& path);

/// The plan as JSON, and back. Throws Error for a text that is no plan.
std::string to_text(const Plan& plan);
Plan plan_of(const std::string& text, const std::string& origin);

}  // namespace klab
