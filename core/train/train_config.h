// SPDX-License-Identifier: Apache-2.0
// The config keys `train.*`, and the learning-rate schedule.
#pragma once

#include "core/base/config.h"
#include "core/train/adamw.h"

namespace klab {

struct TrainConfig : Configurable {
  int64_t steps = 1000;
  std::vector<Value> phases;  ///< maps of `steps` and what is different in these steps, see RunConfig::phases()
  int64_t batch = 64;
  double lr = 3e-3;
  int64_t seed = 1;
  int64_t eval_every = 100;
  int64_t eval_examples = 512;
  int64_t checkpoint_every = 500;
  double stop_at = 1.0;
  int64_t patience = 0;
  double warmup_ratio = 0.05;
  double max_grad_norm = 1.0;
  AdamWOptions adamw;

  void visit(Fields& fields) override;

  /// Learning rate of step 1, 2, ..: linear warm-up over the first `warmup_ratio` of all steps, then cosine decay to
  /// zero.
  double lr_at(int64_t step) const;
};

}  // namespace klab
