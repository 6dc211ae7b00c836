// SPDX-License-Identifier: Apache-2.0
// Evaluation of predictions.
#pragma once

#include <torch/types.h>

#include <map>

#include "core/model/decoder.h"
#include "core/train/batch_stream.h"
#include "core/train/status.h"

namespace klab {

/// Runs the model on a batch; the head runs on supervised positions only. `mean_loss` (may be null) receives the
/// differentiable mean cross-entropy over targets. The scores of targets (not of sequences) are added to
/// `by_difficulty` (may be null) under their difficulty.
Score score_batch(Decoder& model, const Batch& batch, torch::Tensor* mean_loss,
                  std::map<int64_t, Score>* by_difficulty = nullptr);

}  // namespace klab
