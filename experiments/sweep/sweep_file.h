// SPDX-License-Identifier: Apache-2.0
// Reads a sweep file into a plan and the configs of its runs.
#pragma once

#include <string>
#include <vector>

#include "experiments/run/run_config.h"
#include "experiments/sweep/plan.h"

namespace klab {

struct Sweep {
  Plan plan;
  std::vector<RunConfig> configs;   ///< configs of plan.runs
  std::vector<Assignment> study{};  ///< the section `study`, see study_file.h
};

/// A sweep of these configs without duplicates. Results show the keys `shown`, then the keys in which the runs differ.
Sweep make_sweep(const std::string& name, const std::vector<RunConfig>& configs,
                 const std::vector<std::string>& shown = {});

/// Reads a sweep file:
///
///     base: {..}                      config keys of all runs; may have `extends: other.yaml`
///     grid: {key: [value, ..], ..}    every combination
///     seeds: [1, 2, 3]                the innermost axis, train.seed
///     random: {runs: 20, seed: 1, key: {log_uniform: [1e-4, 1e-2]}, ..}     also uniform, integer, choice; the same
///                                     draws for every point of the grid
///     conditions: [{when: {key: value}, set: {..}, grid: {..}, skip: true}, ..]   for runs that match `when`
///     overrides: {..}                 config keys that come last in every run
///     halving: {metric: acc_seq, steps: [500, 1000], factor: 3, within: [model.pattern]}
///     study: {..}                     for `klab study` (study_file.h); a sweep does not use it
///
/// `overrides` apply to every run and override the file. Throws UsageError, with file and line, for errors in the file
/// or in a run's config.
Sweep read_sweep(const std::string& path, const std::vector<Assignment>& overrides = {});

/// The same for the text of a sweep file; `name` is its name in messages.
Sweep parse_sweep(const std::string& text, const std::string& name, const std::vector<Assignment>& overrides = {});

/// The same for a sweep file that is compiled into the program; see builtin_sweeps.h.
Sweep read_builtin_sweep(const std::string& name, const std::vector<Assignment>& overrides = {});

}  // namespace klab
