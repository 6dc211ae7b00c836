// SPDX-License-Identifier: Apache-2.0
// What a reinforcement-learning run needs of its config: prompts, reward, supervised data.
#pragma once

#include <string>
#include <vector>

#include "core/rl/rl_trainer.h"
#include "experiments/run/run_config.h"

namespace klab {

/// `examples` prompts of a split of the config's task and its mixture, by weight.
std::vector<Prompt> held_out_prompts(const RunConfig& config, int64_t examples, Split split);

/// Builds the trainer of a config with `rl`. Throws UsageError for a task whose examples are not prompts with answers,
/// for variants that name a token differently or have other end tokens, and for a reward that does not call the task's
/// own answers right.
RlTrainer make_rl_trainer(const RunConfig& config, const RunFolder& folder, const std::vector<std::string>& provenance,
                          bool resume, const torch::Device& device);

}  // namespace klab
