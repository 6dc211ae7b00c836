// SPDX-License-Identifier: Apache-2.0
// Studies: a search that chooses a setting per cell on validation data, then runs with new seeds, tested on test data.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "experiments/study/study_file.h"
#include "experiments/study/summary.h"
#include "experiments/sweep/sweep.h"

namespace klab {

struct StudyOptions {
  std::string out;           ///< folder of the results; the runs are in OUT/runs-NAME
  std::string command_line;  ///< quoted, for the headers of results
  double budget_hours = 0;   ///< 0: no limit
  int64_t workers = 0;       ///< parallel runs; 0: as many as fit on the cores
  std::string device = "cpu";
  bool quiet = false;
  /// Changes the config of a run before it is run, for runs that start from others; may be empty.
  std::function<void(RunConfig&)> prepare{};
};

/// Runs a part of a study in a folder, for at most `hours` (0: no limit), with one thread per run. Throws Error when a
/// run fails for another reason than divergence.
SweepOutcome run_part(Sweep sweep, const std::string& folder, double hours, const StudyOptions& options);

/// The runs of a study so far.
struct Study {
  std::string name;
  StudyConfig config;
  std::vector<RunSummary> search, measured;
  bool out_of_time = false;  ///< runs are missing; repeating the command continues
  std::vector<std::string> provenance;
};

/// The seeds of the study's measured runs: those after the search's.
std::vector<int64_t> new_seeds(const StudyFile& file);

/// Runs the search, chooses, and runs every cell with new seeds: results on the search's own seed would be biased by
/// the choice. A later call with the same folder continues. Writes study.yaml (a copy of the file), search.csv,
/// results.csv, curves.csv and evaluations.csv. Throws Error when a run fails for another reason than divergence.
Study run_study(const StudyFile& file, const StudyOptions& options);

/// A cell: the values of the study's `cells`, and its measured runs by the compared value.
struct StudyCell {
  std::vector<Value> values;
  std::vector<std::pair<std::string, std::vector<const RunSummary*>>> runs;  ///< in the order of the file

  /// The runs of a compared value; none if there are none.
  std::vector<const RunSummary*> of(const std::string& compared) const;
};

/// The cells of the study's measured runs, in the order of the file.
std::vector<StudyCell> cells_of(const Study& study);

/// The value of a key in short form: kda for the pattern [kda]; several with commas between.
std::string short_text(const Value& value);
std::string short_text(const std::vector<Value>& values);

/// The study's primary outcome of runs. A run that diverged counts as 0 where larger is better, and is left out of
/// losses.
std::vector<double> outcomes(const std::vector<const RunSummary*>& runs, const std::string& metric);

/// Steps until the run's `metric` on validation data reached `threshold`, or until it ended without that; a run that
/// diverged counts as one that did all its steps.
Time steps_to(const RunSummary& run, const std::string& metric, double threshold);

/// The same for runs of a study, to its threshold.
std::vector<Time> times_of(const std::vector<const RunSummary*>& runs, const StudyConfig& study);

}  // namespace klab
