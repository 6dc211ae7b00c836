// From a run config to a trainer.
#pragma once

#include <string>

#include "core/train/trainer.h"
#include "experiments/run/run_config.h"

namespace klab {

/// Batch number i of a split of the task: examples i * count to (i + 1) * count.
BatchSource batch_source(const TaskConfig& task, int64_t seed, int64_t count, Split split);

/// The batches that the config trains on: of its task, or of its mixture.
BatchSource training_source(const RunConfig& config);

/// The model of a config, parameters not yet drawn.
Decoder make_model(const RunConfig& config);

/// Gives the model the parameters of a run's checkpoint, and returns its training step. Throws Error, before anything
/// is changed, when the file is damaged or of another model.
int64_t load_parameters(const std::string& path, const Decoder& model);

Trainer make_trainer(const RunConfig& config, const RunFolder& folder, const std::vector<std::string>& provenance,
                     bool resume, const torch::Device& device);

}  // namespace klab
