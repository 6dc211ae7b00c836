// SPDX-License-Identifier: Apache-2.0
// What klab train, klab rl and klab resume share.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/train/tensorboard.h"
#include "experiments/command/ranks.h"
#include "experiments/plot/plot.h"
#include "experiments/run/run.h"

namespace klab {

constexpr const char* kTensorboardHelp = "also write the evaluations to RUNDIR/tensorboard, for TensorBoard";

struct TrainOptions {
  bool resume = false, tensorboard = false;
  Parallelism parallelism{};
};

/// What a new run is made of.
struct NewRun {
  std::string file;  ///< YAML file of the config; "" for none
  std::vector<Assignment> flags;
  bool tensorboard = false;
};

/// Declares the options of a command that begins a run; the keys of reinforcement learning too if `reinforced`.
std::shared_ptr<NewRun> add_run_options(CommandOptions& app, bool reinforced);

/// Its config: the file, the flags that override it, and --seed. `reinforced`: of reinforcement learning.
RunConfig run_config_of(const NewRun& run, const Globals& globals, bool reinforced);

/// The folder of a run that this process trains. Rank 0 holds its lock.
struct OpenRun {
  RunFolder folder;
  std::optional<Lock> lock{};
};

/// Makes the folder of a new run, with its config.yaml. Throws UsageError if it contains a run, if another process
/// makes one in it, or if the run would not fit in memory. Rank 0 makes it, the others wait for it.
OpenRun open_new_run(const RunConfig& config, const Globals& globals, RankGroup& ranks);

/// How a run is run under these options. Only new runs' memory is checked before.
RunOptions run_options(const Globals& globals, const TrainOptions& options);

/// Draws the run's plot.png from its metrics.csv.
void draw_run(const RunFolder& folder, const RunConfig& config, PlotOptions options);

/// Run to the end with progress on standard error, then print a summary. Return the exit code.
int train_to_the_end(const RunConfig& config, const RunFolder& folder, const Globals& globals,
                     const TrainOptions& options);
int reinforce_to_the_end(const RunConfig& config, const RunFolder& folder, const Globals& globals,
                         const TrainOptions& options);

}  // namespace klab
