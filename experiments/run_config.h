// The config of one run: task, model and training together.
#pragma once

#include "core/base/config.h"
#include "core/model/model_config.h"
#include "core/train/train_config.h"
#include "mixers/registry.h"
#include "tasks/task.h"

namespace klab {

struct RunConfig : Configurable {
  TaskConfig task;
  ModelConfig model{mixers()};
  TrainConfig train;

  void visit(Fields& fields) override;
  void validate() const override;

  /// Rows of the embedding: model.vocab, or what the task has.
  int64_t vocabulary() const;

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
