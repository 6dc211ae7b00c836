// From a run config to a trained model in a folder.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/train/trainer.h"
#include "experiments/run/record.h"
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

/// A trainer of the config. Throws UsageError when the machine's memory cannot hold the training state.
Trainer make_trainer(const RunConfig& config, const RunFolder& folder, const std::vector<std::string>& provenance,
                     bool resume, const torch::Device& device);

struct RunOptions {
  std::string device = "cpu";
  std::vector<std::string> provenance;
  bool resume = false;  ///< from the folder's last checkpoint
};

/// Called before the first step (then `status` is null) and after every step with the run's record, which it may
/// change: a state other than `running` ends the run after a checkpoint.
using WatchRun = std::function<void(RunRecord& record, const TrainStatus* status, bool evaluated)>;

/// Trains the run that `folder` holds as config.yaml to its end, evaluates the variants of test.also, and keeps
/// record.json up to date. A run that diverges or fails is no exception: its record says so. Throws Interrupted, after
/// a checkpoint, when a signal asked to stop, and Error when the record cannot be written.
RunRecord train_run(const RunFolder& folder, const RunOptions& options, const WatchRun& watch);

}  // namespace klab
