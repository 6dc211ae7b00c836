// SPDX-License-Identifier: Apache-2.0
// Progress and results of a run, without torch types.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>

namespace klab {

/// The result of an evaluation.
struct Metrics {
  double loss = 0, acc_tok = 0, acc_seq = 0;
};

/// Whether result a is better than b. Evaluations compare by acc_seq, ties by the smaller loss; single metrics by the
/// larger accuracy (names with "acc") or the smaller loss. False for equal results.
bool better(const Metrics& a, const Metrics& b);
bool better(const std::string& metric, double a, double b);

/// Loss and accuracy as sums over batches; tables show the means.
struct Score {
  double loss_sum = 0;       ///< cross-entropy in nats, over targets
  double surprisal_sum = 0;  ///< of the same targets under their source: the least loss; 0 if the source is not known
  int64_t bytes = 0;         ///< of text that the targets stand for; 0 if they are not text
  int64_t targets = 0, targets_right = 0, sequences = 0, sequences_right = 0;

  double loss() const { return loss_sum / static_cast<double>(targets); }
  double acc_tok() const { return static_cast<double>(targets_right) / static_cast<double>(targets); }
  /// Share of sequences with every target predicted correctly.
  double acc_seq() const { return static_cast<double>(sequences_right) / static_cast<double>(sequences); }

  /// Loss above the entropy of the source, in nats per target.
  double excess() const { return loss() - surprisal_sum / static_cast<double>(targets); }
  double bits_per_byte() const { return loss_sum / std::numbers::ln2 / static_cast<double>(bytes); }
  double perplexity() const { return std::exp(loss()); }

  Metrics metrics() const { return {loss(), acc_tok(), acc_seq()}; }

  Score& operator+=(const Score& other);

  template <class Self, class Visit>
  static void each_field(Self& self, const Visit& visit) {
    visit("loss_sum", self.loss_sum);
    visit("surprisal_sum", self.surprisal_sum);
    visit("bytes", self.bytes);
    visit("targets", self.targets);
    visit("targets_right", self.targets_right);
    visit("sequences", self.sequences);
    visit("sequences_right", self.sequences_right);
  }
};

/// Results on test data.
struct TestScores {
  Score last;  ///< of the parameters after the last step
  Score best;  ///< of those with the best evaluation, which are in the checkpoint `best`
};

/// The files of a run. With an empty path nothing is written.
struct RunFolder {
  std::string path;

  std::string config() const { return path + "/config.yaml"; }
  std::string record() const { return path + "/record.json"; }
  std::string lock() const { return path + "/lock"; }  // held by the process that trains the run
  std::string metrics() const { return path + "/metrics.csv"; }
  std::string answers() const { return path + "/answers.jsonl"; }  // of reinforcement learning
  std::string last() const { return path + "/checkpoint/last.safetensors"; }
  std::string best() const { return path + "/checkpoint/best.safetensors"; }
};

/// The progress of a run.
struct TrainStatus {
  int64_t step = 0;
  Score train;             ///< since the last evaluation
  Score validation, best;  ///< the last and the best evaluation; `targets` is 0 before the first
  int64_t best_step = 0;
  double lr = 0, grad_norm = 0;
  double largest_logit = 0;  ///< of attention, since the last evaluation; 0 if it is not recorded (train.optimizer)
  double seconds = 0;        ///< of training, including those before a resume
  double tokens_per_second = 0;
  double wait_share = 0;  ///< share of the time that training waited for data

  /// Whether the last evaluation is better than the best one, which it then becomes.
  bool keep_if_best() {
    if (best.targets > 0 && !better(validation.metrics(), best.metrics())) return false;
    best = validation;
    best_step = step;
    return true;
  }
};

}  // namespace klab
