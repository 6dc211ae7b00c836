// SPDX-License-Identifier: Apache-2.0
// The config of one run: task, model and training.
#pragma once

#include <map>
#include <optional>

#include "core/base/config.h"
#include "core/model/model_config.h"
#include "core/rl/rl_config.h"
#include "core/train/train_config.h"
#include "mixers/registry.h"
#include "rewards/reward.h"
#include "tasks/task.h"

namespace klab {

/// The task of a run with some keys changed.
struct TaskVariant {
  std::string name;  ///< "length=128 mqar.pairs=8"
  TaskConfig task;
  int64_t weight = 1;  ///< in a mixture: batches are drawn proportionally to it
};

/// The config keys `mixture.*`: further variants of the task to train on. Every batch (in reinforcement learning every
/// prompt) is of one variant, drawn by weight; the task itself has weight 1.
struct MixtureConfig : Configurable {
  std::vector<Value> tasks;  ///< maps of keys of `task.*`, and `weight`
  void visit(Fields& fields) override;
};

/// A part of a run with a task or mixture, a batch and a peak learning rate of its own.
struct Phase {
  int64_t steps;
  std::vector<TaskVariant> tasks;  ///< the task and the variants of its mixture
  int64_t batch;
  double lr;
};

/// The config keys `test.*`: variants of the task on which the trained model is also evaluated.
struct TestConfig : Configurable {
  std::vector<Value> also;  ///< maps of keys of `task.*`
  int64_t examples = 512;

  void visit(Fields& fields) override;
};

struct RunConfig : Configurable {
  std::string label;  ///< a name for what the run is, to group runs by; nothing depends on it
  TaskConfig task;
  ModelConfig model{mixers()};
  TrainConfig train;
  MixtureConfig mixture;
  TestConfig test;
  /// Set for reinforcement learning: then the config also has the keys `rl.*` and `reward.*`.
  std::optional<RlConfig> rl;
  RewardConfig reward;

  void visit(Fields& fields) override;
  void validate() const override;

  /// The task, then the variants of `mixture.tasks`. Throws UsageError for a key that the task does not have.
  std::vector<TaskVariant> trained_tasks() const;
  /// The variants of `test.also` and of `rl.ptx_tasks`. Throws UsageError as trained_tasks().
  std::vector<TaskVariant> tested_variants() const;
  std::vector<TaskVariant> ptx_tasks() const;

  /// The phases of `train.phases`, which come before the task itself. Throws UsageError for a key that a phase does not
  /// have, and if no step is left for the task itself.
  std::vector<Phase> phases() const;

  /// Rows of the embedding: model.vocab, or the largest vocabulary of the task and its variants.
  int64_t vocabulary() const;
  int64_t task_vocabulary() const;

  /// "mqar-kda-1a2b3c4d": task, pattern, and the hash of the whole config.
  std::string run_name() const;
};

/// Whether a key is of reinforcement learning alone: `rl.*` or `reward.*`.
bool is_rl_key(const std::string& key);

/// Builds a config from assignments, without validate(). It is one of reinforcement learning if is_rl_key() for a key.
/// Throws UsageError.
RunConfig assigned_run_config(const std::vector<Assignment>& assignments);

/// Builds and validates a config from assignments. A key `model.config` (a public config.json, a folder with one, or
/// the name of a built-in one) is replaced by the model keys that it defines; later assignments override them. Throws
/// UsageError.
RunConfig make_run_config(const std::vector<Assignment>& assignments);

/// Replaces `model.config` by the assignments of the public config.
std::vector<Assignment> with_public_config(const std::vector<Assignment>& assignments);

/// All keys of run configs, including the options of all tasks and mixers, and the keys of earlier versions with their
/// new names.
struct RunFields {
  std::vector<Field> fields;  ///< for display; their accessors refer to configs with default values
  std::map<std::string, std::string> renamed;
};
const RunFields& all_run_fields();

}  // namespace klab
