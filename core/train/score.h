// How well predictions meet their targets.
#pragma once

#include <torch/types.h>

#include <map>

#include "core/model/decoder.h"
#include "core/train/batch_stream.h"

namespace klab {

/// Sums over batches; the shares are what tables show.
struct Score {
  double loss_sum = 0;  ///< cross-entropy in nats, over targets
  int64_t targets = 0, targets_right = 0, sequences = 0, sequences_right = 0;

  double loss() const { return loss_sum / static_cast<double>(targets); }
  double acc_tok() const { return static_cast<double>(targets_right) / static_cast<double>(targets); }
  /// Share of sequences with every target right.
  double acc_seq() const { return static_cast<double>(sequences_right) / static_cast<double>(sequences); }

  Score& operator+=(const Score& other);
};

/// Runs the model on a batch. The head works on supervised positions alone. `mean_loss` (may be null) receives the
/// differentiable mean loss over targets.
Score score_batch(Decoder& model, const Batch& batch, torch::Tensor* mean_loss);

/// Scores of targets alone (no sequences), by their difficulty.
std::map<int64_t, Score> score_by_difficulty(Decoder& model, const Batch& batch);

}  // namespace klab
