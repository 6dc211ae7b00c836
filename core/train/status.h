// The progress and the results of a run, as plain numbers: no torch needed.
#pragma once

#include <cstdint>
#include <string>

namespace klab {

/// The result of an evaluation.
struct Metrics {
  double loss = 0, acc_tok = 0, acc_seq = 0;
};

/// Which of two results is better is decided here: of evaluations the one with more sequences right, then the one with
/// less loss; of one metric, the larger accuracy and the smaller loss. False for equals.
bool better(const Metrics& a, const Metrics& b);
bool better(const std::string& metric, double a, double b);

/// How well predictions meet their targets: sums over batches; the shares are what tables show.
struct Score {
  double loss_sum = 0;  ///< cross-entropy in nats, over targets
  int64_t targets = 0, targets_right = 0, sequences = 0, sequences_right = 0;

  double loss() const { return loss_sum / static_cast<double>(targets); }
  double acc_tok() const { return static_cast<double>(targets_right) / static_cast<double>(targets); }
  /// Share of sequences with every target right.
  double acc_seq() const { return static_cast<double>(sequences_right) / static_cast<double>(sequences); }

  Metrics metrics() const { return {loss(), acc_tok(), acc_seq()}; }

  Score& operator+=(const Score& other);

  template <class Self, class Visit>
  static void each_field(Self& self, const Visit& visit) {
    visit("loss_sum", self.loss_sum);
    visit("targets", self.targets);
    visit("targets_right", self.targets_right);
    visit("sequences", self.sequences);
    visit("sequences_right", self.sequences_right);
  }
};

/// The files of a run. An empty path: nothing is kept.
struct RunFolder {
  std::string path;

  std::string config() const { return path + "/config.yaml"; }
  std::string record() const { return path + "/record.json"; }
  std::string metrics() const { return path + "/metrics.csv"; }
  std::string last() const { return path + "/checkpoint/last.safetensors"; }
  std::string best() const { return path + "/checkpoint/best.safetensors"; }
};

/// The progress of a run.
struct TrainStatus {
  int64_t step = 0;
  Score train;       ///< since the last evaluation
  Score test, best;  ///< the last and the best evaluation; `targets` is 0 before the first
  double lr = 0, grad_norm = 0;
  double seconds = 0;  ///< of training, those before an interruption included
  double tokens_per_second = 0;
  double wait_share = 0;  ///< share of the time that training waited for data
};

}  // namespace klab
