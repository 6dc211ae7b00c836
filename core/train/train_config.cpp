// SPDX-License-Identifier: Apache-2.0
#include "core/train/train_config.h"

#include <fmt/format.h>

#include <algorithm>

#include <limits>

#include "core/train/lr_factors.h"

namespace klab {

void TrainConfig::visit(Fields& fields) {
  fields("steps", steps, {1, 1'000'000'000}, "maximum number of optimiser steps");
  fields.maps(
      "phases", phases,
      "phases: [{steps: 500, task.length: 16, train.batch: 32, train.lr: 1e-3}, ..], each with some steps and what "
      "differs in them: keys of `task.*`, train.batch, train.lr; then follow the rest of the steps");
  fields("batch", batch, {1, 1'000'000}, "sequences per step");
  fields("accumulate", accumulate, {1, 1'000'000},
         "parts into which the batch of a step is cut to need less memory; the gradient is that of the whole batch");
  fields("activation_checkpointing", activation_checkpointing,
         "keep only the inputs of layers for the backward pass and compute each layer twice, to need less memory");
  fields.choice("dtype", dtype, {"float32", "bfloat16"},
                "dtype of training steps; weights, optimiser and evaluations are float32");
  fields("lr", lr, {0, 1e30, Ends::above_least}, "peak learning rate");
  fields.maps("lr_factors", lr_factors,
              "learning rates of single parameters: [{match: A_log, factor: 3}, ..], each with a regular expression or "
              "a part of the parameters' names and a factor; of several that match, the last is used");
  fields("seed", seed, {0, std::numeric_limits<int64_t>::max()}, "seed of parameters and data");
  fields("from", from, "start with the parameters of this checkpoint, or of the last one of this run folder");
  fields("from_state", from_state, "with train.from: also continue its optimiser state, its step and its data");
  fields("eval_every", eval_every, {1, 1'000'000'000}, "steps between evaluations on validation data");
  fields("eval_examples", eval_examples, {1, 1'000'000'000},
         "sequences per evaluation, on validation data while training and on test data at the end");
  fields("checkpoint_every", checkpoint_every, {1, 1'000'000'000}, "steps between checkpoints");
  fields("stop_at", stop_at, {0, 1e6, Ends::above_least},
         "stop when acc_seq on validation data reaches this; above 1: never");
  fields("patience", patience, {0, 1'000'000},
         "stop after so many evaluations without a better one on validation data; 0: never");
  Schedule::add_to(fields);
  fields("ema", ema, {0, 1, Ends::below_most},
         "evaluate an exponential average of the weights with this decay per step; 0: the weights themselves");
  fields("max_grad_norm", max_grad_norm, {0, 1e9, Ends::above_least}, "gradients are clipped to this global norm");
  fields.renamed("clip", "max_grad_norm");
  fields.choice("optimizer", optimizer, {"adamw", "muon", "muonclip"},
                "muon: Muon for the matrices of hidden layers, AdamW for everything else; muonclip: Muon and QK-Clip");
  fields("max_logit", max_logit, {0, 1e9, Ends::above_least}, "QK-Clip's limit of the logits of an attention head");
  fields("weight_decay", adamw.weight_decay, {0, 100}, "weight decay of matrices");
  fields("beta1", adamw.beta1, {0, 1, Ends::below_most}, "AdamW's decay of the first moment");
  fields("beta2", adamw.beta2, {0, 1, Ends::below_most}, "AdamW's decay of the second moment");
  fields("momentum", momentum, {0, 1, Ends::below_most}, "Muon's decay of the momentum");
}

double TrainConfig::lr_at(int64_t step) const {
  const auto in_phase = [&](const auto& phase) { return step <= phase.first; };
  const auto phase = std::find_if(phase_peaks.begin(), phase_peaks.end(), in_phase);
  return Schedule::lr_at(step, steps, phase == phase_peaks.end() ? lr : phase->second);
}

void TrainConfig::validate() const {
  require(batch % accumulate == 0, "train.accumulate", fmt::format("{}", accumulate),
          fmt::format("must divide train.batch = {}", batch));
  require(!from_state || !from.empty(), "train.from_state", "true", "must come with train.from");
  lr_factors_of(lr_factors);
}

}  // namespace klab
