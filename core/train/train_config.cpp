// SPDX-License-Identifier: Apache-2.0
#include "core/train/train_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace klab {

void TrainConfig::visit(Fields& fields) {
  fields("steps", steps, {1, 1'000'000'000}, "maximum number of optimiser steps");
  fields.maps("phases", phases,
              "a curriculum: [{steps: 500, task.length: 16}, ..], each with some steps and the keys of `task.*` that "
              "differ in them, in order; then follow the rest of the steps with the task itself");
  fields("batch", batch, {1, 1'000'000}, "sequences per step");
  fields("lr", lr, {0, 1e30, Ends::above_least}, "peak learning rate");
  fields("seed", seed, {0, std::numeric_limits<int64_t>::max()}, "seed of parameters and data");
  fields("eval_every", eval_every, {1, 1'000'000'000}, "steps between evaluations on validation data");
  fields("eval_examples", eval_examples, {1, 1'000'000'000},
         "sequences per evaluation, on validation data while training and on test data at the end");
  fields("checkpoint_every", checkpoint_every, {1, 1'000'000'000}, "steps between checkpoints");
  fields("stop_at", stop_at, {0, 1e6, Ends::above_least},
         "stop when acc_seq on validation data reaches this; above 1: never");
  fields("patience", patience, {0, 1'000'000},
         "stop after so many evaluations without a better one on validation data; 0: never");
  fields("warmup_ratio", warmup_ratio, {0, 1}, "share of the steps for linear warm-up; then cosine decay to zero");
  fields.renamed("warmup", "warmup_ratio");
  fields("max_grad_norm", max_grad_norm, {0, 1e9, Ends::above_least}, "gradients are clipped to this global norm");
  fields.renamed("clip", "max_grad_norm");
  fields("weight_decay", adamw.weight_decay, {0, 100}, "AdamW's weight decay of matrices");
  fields("beta1", adamw.beta1, {0, 1, Ends::below_most}, "AdamW's decay of the first moment");
  fields("beta2", adamw.beta2, {0, 1, Ends::below_most}, "AdamW's decay of the second moment");
}

double TrainConfig::lr_at(int64_t step) const {
  const double warm = std::max(1.0, std::floor(warmup_ratio * static_cast<double>(steps)));
  const auto s = static_cast<double>(step);
  if (s <= warm) return lr * s / warm;
  const double rest = static_cast<double>(steps) - warm;
  return lr * 0.5 * (1 + std::cos(std::numbers::pi * (s - warm) / std::max(rest, 1.0)));
}

}  // namespace klab
