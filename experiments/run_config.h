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

/// Every key that a run config can have, the options of all tasks and mixers included.
const std::vector<Field>& all_run_fields();

}  // namespace klab
