// The config of one run: task, model and training together.
#pragma once

#include <map>

#include "core/base/config.h"
#include "core/model/model_config.h"
#include "core/train/train_config.h"
#include "mixers/registry.h"
#include "tasks/task.h"

namespace klab {

/// The task of a run with some of its keys set otherwise.
struct TaskVariant {
  std::string name;  ///< "length=128 mqar.pairs=8"
  TaskConfig task;
  int64_t weight = 1;  ///< in a mixture: batches are drawn in proportion to it
};

/// The config keys `mixture.*`: other variants of the task to train on as well. A batch is of one variant, drawn by
/// weight; the task itself has weight 1.
struct MixtureConfig : Configurable {
  std::vector<Value> tasks;  ///< maps of keys of `task.*`, and `weight`
  void visit(Fields& fields) override;
};

/// The config keys `test.*`: variants of the task on which the trained model is evaluated as well.
struct TestConfig : Configurable {
  std::vector<Value> also;  ///< maps of keys of `task.*`
  int64_t examples = 512;

  void visit(Fields& fields) override;
};

struct RunConfig : Configurable {
  TaskConfig task;
  ModelConfig model{mixers()};
  TrainConfig train;
  MixtureConfig mixture;
  TestConfig test;

  void visit(Fields& fields) override;
  void validate() const override;

  /// The variants of `mixture.tasks` and of `test.also`. Throws UsageError for a key that the task does not have.
  std::vector<TaskVariant> trained_variants() const;
  std::vector<TaskVariant> tested_variants() const;

  /// Rows of the embedding: model.vocab, or what the task and its variants have.
  int64_t vocabulary() const;
  int64_t task_vocabulary() const;

  /// "mqar-kda-1a2b3c4d": task, pattern, and the hash of the whole config.
  std::string run_name() const;
};

/// The config that these assignments make, validated. A key `model.config` (a public config.json, a folder with one, or
/// the name of a built-in one) stands for all model keys that it says; later assignments override them. Throws
/// UsageError.
RunConfig make_run_config(const std::vector<Assignment>& assignments);

/// The assignments with those of the public config in the place of `model.config`.
std::vector<Assignment> with_public_config(const std::vector<Assignment>& assignments);

/// Throws UsageError with the number of bytes when the machine's memory cannot hold the weights of the model, their
/// gradients and AdamW's two moments, in float32.
void require_memory(const RunConfig& config);

/// Every key that a run config can have, the options of all tasks and mixers included, and the keys of earlier versions
/// with their new names.
struct RunFields {
  std::vector<Field> fields;  ///< to show; their accessors refer to configs with the defaults
  std::map<std::string, std::string> renamed;
};
const RunFields& all_run_fields();

}  // namespace klab
