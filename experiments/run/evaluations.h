// SPDX-License-Identifier: Apache-2.0
// Evaluation of a trained model on variants of its task, by difficulty.
#pragma once

#include <string>
#include <vector>

#include "core/train/score.h"
#include "core/train/status.h"
#include "experiments/run/run_config.h"

namespace klab {

/// Scores of one variant of a task.
struct Evaluation {
  std::string variant;  ///< "length=256 mqar.pairs=8"; "" for the task itself
  int64_t length;
  std::string measure;  ///< the unit of `difficulty`
  Score all;
  std::vector<std::pair<int64_t, Score>> slices;  ///< by increasing difficulty; scores of targets, not of sequences
  /// For tasks with a target at every position (text, language): slices by the target's position in its sequence.
  std::vector<std::pair<int64_t, Score>> positions = {};
};

/// Evaluates the model on `test.examples` sequences of one variant.
Evaluation evaluate_variant(const TaskVariant& variant, const RunConfig& config, Decoder& model,
                            const torch::Device& device, Split split = Split::test);

/// Evaluates the model on `test.examples` test sequences of the task and of every variant of test.also.
std::vector<Evaluation> evaluate_variants(const RunConfig& config, Decoder& model, const torch::Device& device);

/// Writes evaluations.csv into the run's folder if the config has variants in test.also, or the task has a target at
/// every position. Without a folder only evaluates, for the other ranks that share experts with this one.
void write_evaluations(const RunConfig& config, Decoder& model, const torch::Device& device, const RunFolder& folder,
                       const std::vector<std::string>& provenance);

}  // namespace klab
