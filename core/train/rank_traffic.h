// SPDX-License-Identifier: Apache-2.0
// A model of what ranks send to each other in a training step.
#pragma once

#include <cstdint>

#include "core/model/model_config.h"
#include "core/parallel/rank_layout.h"
#include "core/train/train_config.h"

namespace klab {

/// Bytes that a rank sends in a step, the mean over ranks. Scores and norms, some hundred bytes, are left out.
struct RankTraffic {
  double gradients = 0;  ///< sums over ranks: of all gradients, with ZeRO-1 of those that a rank owns
  double weights = 0;    ///< ZeRO-1: new weights
  double experts = 0;    ///< rows of tokens to experts and back, and their gradients
  double context = 0;    ///< summaries of states, inputs of convolutions, keys and values, and their gradients
  double total() const { return gradients + weights + experts + context; }
};

/// Predicts the traffic of a step with `sequences` sequences of `length` tokens in all, from what layers and their
/// states have. Exact but for experts, over which tokens are assumed to be distributed evenly. Throws UsageError if the
/// layout does not fit the model or has more shares than there are sequences.
RankTraffic predict_rank_traffic(const ModelConfig& model, int64_t vocabulary, const TrainConfig& train,
                                 int64_t sequences, int64_t length, const RankLayout& layout);

}  // namespace klab
