// SPDX-License-Identifier: Apache-2.0
// The config keys `train.*`.
#pragma once

#include <c10/core/ScalarType.h>

#include "core/base/config.h"
#include "core/train/adamw.h"
#include "core/train/schedule.h"

namespace klab {

struct TrainConfig : Configurable, Schedule {
  int64_t steps = 1000;
  std::vector<Value> phases;  ///< maps of `steps` and what is different in these steps, see RunConfig::phases()
  /// The last step and the peak learning rate of each phase; not a config key of its own.
  std::vector<std::pair<int64_t, double>> phase_peaks{};
  int64_t batch = 64;
  int64_t accumulate = 1;
  bool activation_checkpointing = false;
  std::string dtype = "float32";
  double lr = 3e-3;
  std::vector<Value> lr_factors;  ///< maps of `match` and `factor`, see lr_factors_of()
  int64_t seed = 1;
  std::string from;  ///< a checkpoint or a run folder
  bool from_state = false;
  int64_t eval_every = 100;
  int64_t eval_examples = 512;
  int64_t checkpoint_every = 500;
  double stop_at = 1.0;
  int64_t patience = 0;
  double ema = 0;
  double max_grad_norm = 1.0;
  std::string optimizer = "adamw";
  AdamWOptions adamw;  ///< its weight decay is also Muon's
  double momentum = 0.95;
  double max_logit = 100;

  void visit(Fields& fields) override;

  /// Also checks the entries of `lr_factors`, but not whether they match a parameter.
  void validate() const override;

  /// The dtype in which steps are computed.
  c10::ScalarType step_dtype() const { return dtype == "bfloat16" ? c10::kBFloat16 : c10::kFloat; }

  /// Learning rate of step 1, 2, .., see Schedule; in a phase with the phase's peak.
  double lr_at(int64_t step) const;
};

}  // namespace klab
