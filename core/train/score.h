// SPDX-License-Identifier: Apache-2.0
// Evaluation of predictions.
#pragma once

#include <torch/types.h>

#include <map>
#include <vector>

#include "core/model/decoder.h"
#include "core/train/batch_stream.h"
#include "core/train/status.h"

namespace klab {

/// Scores of targets (not of sequences), added under the targets' numbers.
struct Slicing {
  torch::Tensor numbers;  ///< [B, T] int64, for example the difficulty
  std::map<int64_t, Score>* scores;
};

/// Runs the model on a batch; the head runs on supervised positions only. `mean_loss` (may be null) receives the
/// differentiable mean cross-entropy over targets.
Score score_batch(Decoder& model, const Batch& batch, torch::Tensor* mean_loss,
                  const std::vector<Slicing>& slicings = {});

}  // namespace klab
