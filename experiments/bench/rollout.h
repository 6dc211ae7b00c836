// SPDX-License-Identifier: Apache-2.0
// Speed of reinforcement learning: sampling answers and updating the policy on them, and where sampling spends its
// time.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "experiments/bench/training.h"
#include "experiments/run/run_config.h"

namespace klab {

/// Iterations of a model of `pattern` (as model.pattern), with width / head_dim heads and a vocabulary of 20. Prompts
/// are random tokens, `prompt_tokens` on average and up to a quarter fewer or more. There is no end token, so that
/// every answer has `new_tokens`, and rewards are random.
struct RolloutWorkload {
  std::vector<std::string> pattern;
  int64_t layers = 4, width = 128, head_dim = 32;
  int64_t prompts = 8, samples = 8;  ///< of an iteration; answers to each prompt
  int64_t prompt_tokens = 16, new_tokens = 64;
  std::string dtype = "float32";  ///< rl.rollout_dtype

  RunConfig config() const;
  int64_t tokens() const { return prompts * samples * new_tokens; }  ///< of the answers of an iteration
};

struct RolloutSpeed {
  int64_t iterations = 0, tokens = 0;  ///< timed iterations, and the tokens of the answers of each
  double rollout_seconds = 0, reward_seconds = 0, update_seconds = 0;  ///< per iteration, medians
  /// Shares of the time of sampling by the kind of operator, see category_of(). "products" includes those of the output
  /// head. "rest" is klab's other kernels, which without gradients are no operators that can be observed, drawing
  /// tokens, and bookkeeping.
  std::map<std::string, double> shares;
  std::vector<OperatorTime> operators;  ///< of sampling, milliseconds per iteration, the slowest first

  double seconds() const { return rollout_seconds + reward_seconds + update_seconds; }
  double rollout_tokens_per_second() const { return static_cast<double>(tokens) / rollout_seconds; }
  double update_tokens_per_second() const { return static_cast<double>(tokens) / update_seconds; }
};

/// The categories of RolloutSpeed::shares, in the order of tables.
const std::vector<std::string>& rollout_categories();

/// Runs iterations of RlTrainer for about `seconds` after a warm-up, then samples again under observation.
RolloutSpeed measure_rollout(const RolloutWorkload& workload, double seconds);

}  // namespace klab
