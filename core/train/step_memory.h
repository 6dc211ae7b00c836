// SPDX-License-Identifier: Apache-2.0
// Memory that training steps need, before any is run.
#pragma once

#include <cstdint>

#include "core/model/model_config.h"
#include "core/parallel/rank_layout.h"
#include "core/train/train_config.h"

namespace klab {

/// What is in memory at once: the sequences of a step or, with train.accumulate, of a part of it.
struct StepShape {
  int64_t sequences;
  int64_t length;   ///< tokens of each
  int64_t targets;  ///< of each, positions with a loss
};

/// Bytes of the tensors of a training step. Evaluations need less: they have no gradients and keep no activations.
struct StepMemory {
  int64_t parameters = 0;   ///< their number
  int64_t weights = 0;      ///< float32 (of which ZeRO-1 shards those that have a copy), with their average (train.ema)
                            ///< and their copy in train.dtype
  int64_t optimizer = 0;    ///< its state
  int64_t gradients = 0;    ///< float32, after the backward pass
  int64_t activations = 0;  ///< at the end of the forward pass
  int64_t buffers = 0;      ///< of gradients on their way to other ranks
  int64_t peak = 0;         ///< of everything in a step
};

/// Predicts the memory of training steps from the parameters' sizes and from measure_layer() (layer_memory.h) for every
/// kind of layer in the config. Takes some milliseconds for a small model, and as long as about 1,500 tokens take for
/// a large one. With several ranks the memory is that of one, and `shape` what it computes at once; left out is what it
/// receives of other ranks' tokens, the keys and values of earlier parts of its sequences above all. Throws UsageError
/// as make_optimizer() does.
StepMemory predict_step_memory(const ModelConfig& model, int64_t vocabulary, const TrainConfig& train,
                               const StepShape& shape, const RankLayout& layout = {});

}  // namespace klab
