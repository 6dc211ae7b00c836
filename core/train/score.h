// SPDX-License-Identifier: Apache-2.0
// Evaluation of predictions.
#pragma once

#include <torch/types.h>

#include <map>
#include <vector>

#include "core/model/decoder.h"
#include "core/parallel/rank_group.h"
#include "core/train/batch_stream.h"
#include "core/train/status.h"

namespace klab {

/// The part of a batch for this rank of a group whose ranks share each sequence (context parallelism).
Batch part_of(const Batch& batch, const std::shared_ptr<RankGroup>& context);

/// Scores of targets (not of sequences), added under the targets' numbers.
struct Slicing {
  torch::Tensor numbers;  ///< [B, T] int64, for example the difficulty
  std::map<int64_t, Score>* scores;
};

/// The scores of all ranks' parts or batches, in the order of ranks: `own` has as many entries on every rank.
std::vector<Score> gather_scores(RankGroup& ranks, const std::vector<Score>& own);

/// Runs the model on a batch; the head runs on supervised positions only. `mean_loss` (may be null) receives the
/// differentiable mean cross-entropy over targets.
Score score_batch(Decoder& model, const Batch& batch, torch::Tensor* mean_loss,
                  const std::vector<Slicing>& slicings = {});

}  // namespace klab
