// How well predictions meet their targets.
#pragma once

#include <torch/types.h>

#include <map>

#include "core/model/decoder.h"
#include "core/train/batch_stream.h"
#include "core/train/status.h"

namespace klab {

/// Runs the model on a batch. The head works on supervised positions alone. `mean_loss` (may be null) receives the
/// differentiable mean loss over targets, `by_difficulty` (may be null) is added the scores of targets alone (no
/// sequences) under their difficulty.
Score score_batch(Decoder& model, const Batch& batch, torch::Tensor* mean_loss,
                  std::map<int64_t, Score>* by_difficulty = nullptr);

}  // namespace klab
