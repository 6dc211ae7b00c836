// SPDX-License-Identifier: Apache-2.0
// The config keys `rl.*`: reinforcement learning with verifiable rewards.
#pragma once

#include "core/base/config.h"

namespace klab {

/// An iteration samples `samples` answers to each of `prompts` prompts, gives each a reward, and updates the policy on
/// them. Of the keys `train.*`, steps are iterations, and a batch is that of an evaluation and of supervised data.
struct RlConfig : Configurable {
  int64_t prompts = 8;
  int64_t samples = 8;
  int64_t max_new_tokens = 64;
  int64_t max_prompt_tokens = 4096;
  double temperature = 1;
  std::string rollout_dtype = "float32";

  std::string loss = "mirror_descent";
  std::string baseline = "mean";
  bool scale_by_deviation = true;
  double clip = 0.2;
  double kl_weight = 0.1;
  double kl_target = 0;
  double kl_horizon = 1000;
  int64_t minibatches = 1;
  int64_t most_minibatches = 0;
  bool reset_optimizer = true;
  double max_importance = 2;
  double length_penalty = 0;
  std::string curriculum = "none";

  double ptx_weight = 0;
  std::vector<Value> ptx_tasks;  ///< maps of keys of `task.*`, and `weight`

  void visit(Fields& fields) override;
  void validate() const override;

  int64_t answers() const { return prompts * samples; }
};

}  // namespace klab
