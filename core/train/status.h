// How a run stands: plain numbers and names, for those who watch it and have no need of torch.
#pragma once

#include <cstdint>
#include <string>

namespace klab {

/// How well predictions meet their targets: sums over batches; the shares are what tables show.
struct Score {
  double loss_sum = 0;  ///< cross-entropy in nats, over targets
  int64_t targets = 0, targets_right = 0, sequences = 0, sequences_right = 0;

  double loss() const { return loss_sum / static_cast<double>(targets); }
  double acc_tok() const { return static_cast<double>(targets_right) / static_cast<double>(targets); }
  /// Share of sequences with every target right.
  double acc_seq() const { return static_cast<double>(sequences_right) / static_cast<double>(sequences); }

  Score& operator+=(const Score& other);
};

/// Where a run keeps its files: metrics.csv and checkpoint/{last,best}.safetensors. An empty path keeps nothing.
struct RunFolder {
  std::string path;

  std::string metrics() const { return path + "/metrics.csv"; }
  std::string last() const { return path + "/checkpoint/last.safetensors"; }
  std::string best() const { return path + "/checkpoint/best.safetensors"; }
};

/// What happened so far, for whoever watches.
struct TrainStatus {
  int64_t step = 0;
  Score train;       ///< since the last evaluation
  Score test, best;  ///< the last and the best evaluation; `targets` is 0 before the first
  double lr = 0, grad_norm = 0;
  double seconds = 0;  ///< of training, over all sittings
  double tokens_per_second = 0;
  double wait_share = 0;  ///< share of the time that training waited for data
};

}  // namespace klab
