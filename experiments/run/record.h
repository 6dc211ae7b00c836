// SPDX-License-Identifier: Apache-2.0
// The state and results of a run: record.json in its folder.
#pragma once

#include <string>
#include <vector>

#include "core/train/status.h"

namespace klab {

enum class RunState {
  waiting,   ///< not started
  running,   ///< started; interrupted or killed if no process holds the run's lock
  parked,    ///< halving: waits for the results of earlier runs
  finished,  ///< all steps done, or train.stop_at reached
  stopped,   ///< by halving
  diverged,  ///< loss or gradients became non-finite, which is deterministic
  failed,    ///< any other error; a later call of the sweep retries it
};
std::string to_string(RunState state);
/// Throws Error for an unknown name.
RunState run_state_of(const std::string& word);
inline bool is_over(RunState state) { return state >= RunState::finished; }

struct RunRecord {
  RunState state = RunState::waiting;
  std::string reason;  ///< of `stopped`, `diverged`, `failed`
  int64_t step = 0;
  bool evaluated = false, tested = false;
  Metrics last, best;       ///< last and best evaluation on validation data, if `evaluated`
  int64_t best_step = 0;    ///< step of the best evaluation
  Metrics test, best_test;  ///< test data with the parameters of the last and of the best step, if `tested`
  int64_t parameters = 0, state_bytes = 0;
  double tokens_per_second = 0, seconds = 0;
  std::vector<std::string> provenance;  ///< command, version, commit, machine

  void set(const TrainStatus& status);
  void set(const TestScores& scores);

  template <class Self, class Visit>  // except the state, which is stored as a word
  static void each_field(Self& self, const Visit& visit) {
    visit("reason", self.reason);
    visit("step", self.step);
    visit("evaluated", self.evaluated);
    visit("loss", self.last.loss);
    visit("acc_tok", self.last.acc_tok);
    visit("acc_seq", self.last.acc_seq);
    visit("best_loss", self.best.loss);
    visit("best_acc_tok", self.best.acc_tok);
    visit("best_acc_seq", self.best.acc_seq);
    visit("best_step", self.best_step);
    visit("tested", self.tested);
    visit("test_loss", self.test.loss);
    visit("test_acc_tok", self.test.acc_tok);
    visit("test_acc_seq", self.test.acc_seq);
    visit("best_test_loss", self.best_test.loss);
    visit("best_test_acc_tok", self.best_test.acc_tok);
    visit("best_test_acc_seq", self.best_test.acc_seq);
    visit("parameters", self.parameters);
    visit("state_bytes", self.state_bytes);
    visit("tokens_per_second", self.tokens_per_second);
    visit("seconds", self.seconds);
    visit("provenance", self.provenance);
  }
};

/// Reads the record in a run's folder; without record.json the state is `waiting`. Throws Error for an invalid file.
RunRecord read_record(const RunFolder& folder);

/// Replaces the record atomically. It is flushed to disk (fsync) only when the run is over: a power failure may lose
/// the record of a run in progress, but never leaves a partial one.
void write_record(const RunFolder& folder, const RunRecord& record);

/// A number of a record by its column name in results.csv. Throws UsageError for an unknown name, and Error for a test
/// result of a run that was not tested.
double metric_of(const RunRecord& record, const std::string& name);

}  // namespace klab
