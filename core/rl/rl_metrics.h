// SPDX-License-Identifier: Apache-2.0
// Progress of reinforcement learning, and its metrics.csv.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/csv.h"
#include "core/rl/importance.h"
#include "core/rl/rl_config.h"
#include "core/train/status.h"

namespace klab {

/// What an iteration did.
struct IterationReport {
  double reward = 0, accuracy = 0;      ///< means over answers; accuracy: share of right ones
  double length = 0;                    ///< tokens per answer
  double cut_off = 0;                   ///< share of answers that rl.max_new_tokens ended
  double all_right = 0, all_equal = 0;  ///< shares of groups left out: all right; not all right, but of equal rewards
  double kl = 0, entropy = 0;           ///< nats per token
  double loss = 0, ptx_loss = 0, grad_norm = 0;  ///< means over the iteration's updates
  double ratio_clipped = 0;                      ///< grpo: share of tokens
  Importance importance;
  double kl_weight = 0;
  int64_t updates = 0;
  int64_t tokens = 0;  ///< of all answers
  double rollout_seconds = 0, reward_seconds = 0, update_seconds = 0;

  double seconds() const { return rollout_seconds + reward_seconds + update_seconds; }
  double tokens_per_second() const { return static_cast<double>(tokens) / seconds(); }
  double rollout_tokens_per_second() const { return static_cast<double>(tokens) / rollout_seconds; }
  double update_tokens_per_second() const { return static_cast<double>(tokens) / update_seconds; }
};

/// Greedy answers to held-out prompts.
struct RlEvaluation {
  double reward = 0, length = 0;
  Score score;       ///< its targets are the tokens of the reference answers, its sequences the greedy answers
  Score supervised;  ///< of the supervised data
};

struct RlStatus {
  TrainStatus train;  ///< a step is an iteration; validation and best are greedy answers
  IterationReport iteration;
  RlEvaluation evaluation;
  int64_t iterations_without_signal = 0;  ///< that followed each other and had no group with different rewards
};

/// The metrics.csv of a run: a row of split `train` per iteration; rows of evaluations.
class RlMetrics {
 public:
  /// See open_metrics() in core/train/metrics_file.h.
  RlMetrics(const RunFolder& folder, const std::vector<std::string>& provenance, const RlConfig& config, bool resume,
            int64_t step);

  void write_iteration(const RlStatus& status);
  void write_evaluation(int64_t step, const std::string& split, const RlEvaluation& evaluation, double seconds);
  void sync() { file_->sync(); }

 private:
  void write(const std::vector<std::pair<std::string, std::string>>& cells);

  bool has_ptx_, clips_;
  std::unique_ptr<CsvWriter> file_;
};

}  // namespace klab
