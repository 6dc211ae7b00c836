// How well predictions meet their targets.
#pragma once

#include <torch/types.h>

#include <map>

#include "core/model/decoder.h"
#include "core/train/batch_stream.h"
#include "core/train/status.h"

namespace klab {

/// Runs the model on a batch. The head works on supervised positions alone. `mean_loss` (may be null) receives the
/// differentiable mean loss over targets.
Score score_batch(Decoder& model, const Batch& batch, torch::Tensor* mean_loss);

/// Scores of targets alone (no sequences), by their difficulty.
std::map<int64_t, Score> score_by_difficulty(Decoder& model, const Batch& batch);

}  // namespace klab
