// SPDX-License-Identifier: Apache-2.0
// One training run: from a config to a trained model in a folder.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/lock.h"
#include "core/rl/rl_trainer.h"
#include "core/train/trainer.h"
#include "experiments/run/record.h"
#include "experiments/run/run_config.h"

namespace klab {

/// The config of the run in a folder. Throws UsageError when the folder holds no run.
RunConfig read_run_config(const RunFolder& folder);

/// Takes the lock of a run, which a process holds while it makes or trains the run. Throws UsageError, which names the
/// folder and the process that holds it.
Lock lock_run(const RunFolder& folder);

/// A source whose batch i contains the examples [i * count, (i + 1) * count) of a split of the task.
BatchSource batch_source(const TaskConfig& task, int64_t seed, int64_t count, Split split);

/// Which task of a mixture the batch or prompt number `index` is of, drawn by weight.
class MixtureDraw {
 public:
  MixtureDraw(const std::vector<TaskVariant>& tasks, int64_t seed);
  size_t operator()(int64_t index) const;

 private:
  int64_t seed_;
  std::vector<int64_t> until_;  // cumulative weights
};

/// Training batches of `count` examples, each of one of the tasks, drawn by weight.
BatchSource mixture_source(const std::vector<TaskVariant>& tasks, int64_t seed, int64_t count);

/// The first `examples` examples of a split of the task, `count` per batch but for the last.
std::vector<Batch> held_out_batches(const TaskConfig& task, int64_t seed, int64_t examples, int64_t count, Split split);

/// The training batches of the config: of its phases, then of its task or mixture.
BatchSource training_source(const RunConfig& config);

/// Builds the model of a config; its parameters are not initialised. `expert_ranks`: see Decoder.
Decoder make_model(const RunConfig& config, const std::shared_ptr<RankGroup>& expert_ranks = nullptr);

/// Loads the parameters of a run's checkpoint into the model; returns its training step. Throws Error, before any
/// change, if the file is damaged or of another model.
int64_t load_parameters(const std::string& path, const Decoder& model);

/// Builds the trainer of a config.
Trainer make_trainer(const RunConfig& config, const RunFolder& folder, const std::vector<std::string>& provenance,
                     bool resume, const torch::Device& device, const Parallelism& parallelism = {});

struct RunOptions {
  std::string device = "cpu";
  std::vector<std::string> provenance{};
  bool resume = false;          ///< from the folder's last checkpoint
  bool memory_checked = false;  ///< require_memory() was called for this run and device
  Parallelism parallelism{};    ///< this process's place among the ranks of the run
  /// Called after every iteration of reinforcement learning, before WatchRun.
  std::function<void(const RlStatus& status, bool evaluated)> watch_rl{};
};

/// Called before the first step (with a null `status`) and after every step, with the run's record. It may set a state
/// other than `running`, which ends the run after a checkpoint.
using WatchRun = std::function<void(RunRecord& record, const TrainStatus* status, bool evaluated)>;

/// Trains the run of the config.yaml in `folder` to its end (by reinforcement learning if the config has `rl`),
/// evaluates it on test data and on the variants of test.also, and keeps record.json up to date. If the run diverges or
/// fails this is recorded there, not thrown. With several ranks all call it, and rank 0 writes. Throws Interrupted,
/// after a checkpoint, on a signal, and Error when the record cannot be written.
RunRecord train_run(const RunFolder& folder, const RunOptions& options, const WatchRun& watch);

}  // namespace klab
