// What is known of a run: record.json in its folder.
#pragma once

#include <string>
#include <vector>

#include "core/train/status.h"

namespace klab {

enum class RunState {
  waiting,   ///< not begun
  running,   ///< begun; interrupted or killed if no process holds the run's lock
  parked,    ///< halving: waits for the results of earlier runs
  finished,  ///< all steps done, or train.stop_at reached
  stopped,   ///< by halving
  diverged,  ///< loss or gradients became non-finite, which is deterministic
  failed,    ///< for any other reason; a later call of the sweep tries again
};
std::string to_string(RunState state);
/// Throws Error for a word that is none.
RunState run_state_of(const std::string& word);
inline bool is_over(RunState state) { return state >= RunState::finished; }

struct RunRecord {
  RunState state = RunState::waiting;
  std::string reason;  ///< of `stopped`, `diverged`, `failed`
  int64_t step = 0;
  bool evaluated = false;
  Metrics last, best;  ///< of the last and the best evaluation on held-out data, when `evaluated`
  int64_t parameters = 0, state_bytes = 0;
  double tokens_per_second = 0, seconds = 0;
  std::vector<std::string> provenance;  ///< command, version, commit, machine

  void set(const TrainStatus& status);
};

/// The record in a run's folder; that of a run not begun where there is no record.json. Throws Error for a file that
/// is no record.
RunRecord read_record(const RunFolder& folder);

/// Replaces the record in one step. It is flushed to disk (fsync) only when the run is over: a power cut may lose a
/// record of a run in progress, but never leaves half of one.
void write_record(const RunFolder& folder, const RunRecord& record);

/// A number of a record by its column in results.csv; throws UsageError for a name that is none.
double metric_of(const RunRecord& record, const std::string& name);

}  // namespace klab
