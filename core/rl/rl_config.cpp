// SPDX-License-Identifier: Apache-2.0
#include "core/rl/rl_config.h"

#include <fmt/format.h>

namespace klab {

void RlConfig::visit(Fields& fields) {
  fields("prompts", prompts, {1, 1'000'000}, "prompts of an iteration");
  fields("samples", samples, {2, 1'000'000}, "answers to each prompt, its group");
  fields("max_new_tokens", max_new_tokens, {1, 1'000'000}, "an answer ends with the task's end token, or here");
  fields("max_prompt_tokens", max_prompt_tokens, {1, 1'000'000}, "a longer prompt is an error");
  fields("temperature", temperature, {0, 1e6, Ends::above_least},
         "of sampling; the policy that is trained is the model's at this temperature");
  fields.choice("rollout_dtype", rollout_dtype, {"float32", "bfloat16", "int8"},
                "dtype in which answers are sampled (int8: of the projections' weights); updates are float32");
  fields.choice("loss", loss, {"mirror_descent", "grpo"},
                "policy loss: mirror_descent (Kimi k1.5), or grpo with PPO's clipped ratio");
  fields.choice("baseline", baseline, {"mean", "leave_one_out"},
                "subtracted from a reward: the mean of its group, or that of the group's other answers");
  fields("scale_by_deviation", scale_by_deviation, "grpo: divide advantages by the group's standard deviation");
  fields("clip", clip, {0, 1, Ends::below_most}, "grpo: ratios of probabilities are clipped to 1 - clip and 1 + clip");
  fields("kl_weight", kl_weight, {0, 1e6},
         "weight of the divergence from the policy that sampled: tau of mirror_descent, beta of grpo");
  fields("kl_target", kl_target, {0, 1e6},
         "nats per token: kl_weight is adjusted after every iteration to reach it; 0: it is constant");
  fields("kl_horizon", kl_horizon, {0, 1e12, Ends::above_least}, "answers over which kl_weight adjusts");
  fields("minibatches", minibatches, {1, 1'000'000}, "parts of an iteration's answers, with an update for each");
  fields("most_minibatches", most_minibatches, {0, 1'000'000},
         "adjust the number of minibatches, up to this: halved when the policy moves too far, doubled after five "
         "quiet iterations; 0: it is constant");
  fields("reset_optimizer", reset_optimizer, "begin every iteration with an empty optimiser state (Kimi k1.5)");
  fields("max_importance", max_importance, {0, 1e6},
         "limit of the importance weight of a token (its probability in training over that in sampling); 0: all "
         "weights are 1");
  fields("length_penalty", length_penalty, {0, 1e6},
         "weight of the reward for short answers within a group (Kimi k1.5)");
  fields.choice("curriculum", curriculum, {"none", "prioritised", "learnable"},
                "which of the task's variants (mixture.tasks) prompts are of: by weight alone, or also by success rate "
                "s: times 1 - s (Kimi k1.5), or times s (1 - s)");
  fields("ptx_weight", ptx_weight, {0, 1e6}, "weight of the cross-entropy on rl.ptx_tasks, which prevents forgetting");
  fields.maps("ptx_tasks", ptx_tasks,
              "supervised data: variants of the task, like mixture.tasks; their accuracy is evaluated also with "
              "ptx_weight 0");
}

void RlConfig::validate() const {
  require(loss == "grpo" || kl_weight > 0, "rl.kl_weight", fmt::format("{}", kl_weight),
          "must be positive for rl.loss mirror_descent, which divides by it");
  require(kl_target == 0 || kl_weight > 0, "rl.kl_weight", "0", "must be positive to be adjusted (rl.kl_target)");
  require(most_minibatches == 0 || most_minibatches >= minibatches, "rl.most_minibatches",
          fmt::format("{}", most_minibatches), fmt::format("must be at least rl.minibatches = {}, or 0", minibatches));
  require(most_minibatches == 0 || kl_target > 0, "rl.most_minibatches", fmt::format("{}", most_minibatches),
          "must come with rl.kl_target, from which the policy must not move too far");
  require(ptx_weight == 0 || !ptx_tasks.empty(), "rl.ptx_weight", fmt::format("{}", ptx_weight),
          "must come with rl.ptx_tasks, for example [{question.kind: copy}]");
}

}  // namespace klab
