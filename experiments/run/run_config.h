// The config of one run: task, model and training together.
#pragma once

#include "core/base/config.h"
#include "core/model/model_config.h"
#include "core/train/train_config.h"
#include "mixers/registry.h"
#include "tasks/task.h"

namespace klab {

/// The task of a run with some of its keys set otherwise, written "length=128 mqar.pairs=8".
struct TaskVariant {
  std::string text;
  TaskConfig task;
  int64_t weight = 1;  ///< of a mixture, "weight=5": this many parts of its batches
};

/// The config keys `mixture.*`: other variants of the task to train on as well. A batch is of one variant, drawn by
/// weight; the task itself counts once.
struct MixtureConfig : Configurable {
  std::vector<std::string> tasks;
  void visit(Fields& fields) override;
};

/// The config keys `test.*`: what is tested beside the task that is trained.
struct TestConfig : Configurable {
  std::vector<std::string> also;
  int64_t examples = 512;

  void visit(Fields& fields) override;
  void validate() const override;
};

struct RunConfig : Configurable {
  TaskConfig task;
  ModelConfig model{mixers()};
  TrainConfig train;
  MixtureConfig mixture;
  TestConfig test;

  void visit(Fields& fields) override;
  void validate() const override;

  /// What is trained beside the task itself (`mixture.tasks`), and what is tested (`test.also`). Throws UsageError for
  /// a text that names no key of the task.
  std::vector<TaskVariant> trained_variants() const;
  std::vector<TaskVariant> tested_variants() const;

  /// Rows of the embedding: model.vocab, or what the task and its variants have.
  int64_t vocabulary() const;
  int64_t task_vocabulary() const;

  /// "mqar-kda-1a2b3c4d": task, pattern, and the hash of the whole config.
  std::string run_name();
};

/// The config that these assignments make, validated. A key `model.config` (a public config.json, a folder with one, or
/// the name of a built-in one) stands for all model keys that it says; what comes behind it overrides them. Throws
/// UsageError.
RunConfig make_run_config(const std::vector<Assignment>& assignments);

/// The assignments with those of the public config in the place of `model.config`.
std::vector<Assignment> with_public_config(const std::vector<Assignment>& assignments);

/// Every key that a run config can have, the options of all tasks and mixers included.
const std::vector<Field>& all_run_fields();

}  // namespace klab
