// What a trained model answers on other variants of its task, and how that depends on difficulty.
#pragma once

#include <string>
#include <vector>

#include "core/train/score.h"
#include "core/train/trainer.h"
#include "experiments/run/run_config.h"

namespace klab {

/// Scores of one variant of a task.
struct Evaluation {
  std::string variant;  ///< "length=256 mqar.pairs=8"; "" for the task itself
  int64_t length;
  std::string measure;  ///< the unit of `difficulty`
  Score all;
  std::vector<std::pair<int64_t, Score>> slices;  ///< by difficulty, rising; of targets, not sequences
};

/// The model on `test.examples` sequences of one variant, rounded up to batches of `train.batch`.
Evaluation evaluate_variant(const TaskVariant& variant, const RunConfig& config, Decoder& model,
                            const torch::Device& device, Split split = Split::test);

/// The model on `examples` held-out sequences of the task itself and of every variant of test.also.
std::vector<Evaluation> evaluate_variants(const RunConfig& config, Decoder& model, const torch::Device& device);

/// evaluations.csv in the run's folder, where the config names variants; else nothing.
void write_evaluations(const RunConfig& config, Trainer& trainer, const RunFolder& folder,
                       const std::vector<std::string>& provenance);

}  // namespace klab
