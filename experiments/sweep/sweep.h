// SPDX-License-Identifier: Apache-2.0
// Runs a sweep and writes its results.
#pragma once

#include <string>
#include <vector>

#include "experiments/sweep/folder.h"
#include "experiments/sweep/plan.h"

namespace klab {

struct Sweep;  // sweep_file.h

struct SweepOptions {
  std::string out;
  std::string launcher = "local";  ///< or "slurm"
  int64_t workers = 0;             ///< 0: as many as fit on the cores (local), one per run (Slurm)
  int64_t threads = 0;             ///< per run; 0: one, or cores / runs if there are fewer runs than cores (local)
  std::vector<std::string> slurm;
  std::string device = "cpu";
  std::string command_line;
  double budget_hours =
      0;  ///< 0: no limit; afterwards runs are stopped with a checkpoint, and the sweep can be continued
  bool quiet = false;
};

struct SweepOutcome {
  Plan plan;
  std::vector<RunRecord> records;  ///< of plan.runs
  bool out_of_time = false;
  int64_t failures() const;
  bool complete() const;
};

/// Executes the unfinished runs of a sweep in the folder options.out, and writes results.csv, curves.csv and, if
/// variants are evaluated, evaluations.csv there. A failed run does not stop the others. Throws Interrupted after all
/// runs have written their checkpoints, UsageError if another process uses the folder or it has another number of
/// threads, and Error when the folder cannot be written.
SweepOutcome run_sweep(Sweep sweep, const SweepOptions& options);

/// The current state of a sweep's folder.
SweepOutcome read_outcome(const SweepFolder& folder);

/// Writes results.csv, a row per run; curves.csv, a row per evaluation of each run; evaluations.csv, the variants.
void write_results(const SweepFolder& folder, const SweepOutcome& outcome, const std::vector<std::string>& provenance);

/// The runs as a text table of at most `most` rows.
std::string table_of(const SweepOutcome& outcome, size_t most);

}  // namespace klab
