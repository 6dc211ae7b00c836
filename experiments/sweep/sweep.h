// A sweep from its file to its results.
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
  int64_t workers = 0;             ///< 0: as many as there are cores for (local), one per run (Slurm)
  int64_t threads = 0;             ///< per run; 0: one, or all cores where there are fewer runs than cores
  std::vector<std::string> slurm;
  std::string device = "cpu";
  std::string command_line;
  double budget_hours = 0;  ///< 0: none; else what is running then is stopped, and the sweep can be continued
  bool quiet = false;
};

struct SweepOutcome {
  Plan plan;
  std::vector<RunRecord> records;  ///< of plan.runs
  bool out_of_time = false;
  int64_t failures() const;
  bool complete() const;
};

/// Runs what is not done yet of a sweep in the folder options.out, and writes results.csv, curves.csv and, where
/// variants are tested, evaluations.csv there. A failed run does not stop the others. Throws Interrupted after all runs
/// wrote their checkpoints, UsageError when the folder belongs to another call or other threads, and Error when nothing
/// can be written.
SweepOutcome run_sweep(Sweep sweep, const SweepOptions& options);

/// What a sweep's folder holds by now.
SweepOutcome read_outcome(const SweepFolder& folder);

/// results.csv: a row per run; curves.csv: a row per evaluation of each; evaluations.csv: of the variants tested.
void write_results(const SweepFolder& folder, const SweepOutcome& outcome, const std::vector<std::string>& provenance);

/// The runs as a table for people; `most` rows.
std::string table_of(const SweepOutcome& outcome, size_t most);

}  // namespace klab
