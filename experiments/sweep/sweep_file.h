// From the file that people write to the plan and the configs of its runs.
#pragma once

#include <string>
#include <vector>

#include "experiments/run/run_config.h"
#include "experiments/sweep/plan.h"

namespace klab {

struct Sweep {
  Plan plan;
  std::vector<RunConfig> configs;  ///< of plan.runs
};

/// A sweep of these configs, equal ones once. Results show the keys in which they differ, behind `shown`, which are
/// always shown.
Sweep make_sweep(const std::string& name, const std::vector<RunConfig>& configs,
                 const std::vector<std::string>& shown = {});

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
/// `overrides` hold for every run, whatever the file says. Throws UsageError, with file and line, for whatever makes no
/// sense, a run's config included.
Sweep read_sweep(const std::string& path, const std::vector<Assignment>& overrides = {});

/// The same of a sweep file that is compiled into the program; see builtin_sweeps.h.
Sweep read_builtin_sweep(const std::string& name, const std::vector<Assignment>& overrides = {});

}  // namespace klab
