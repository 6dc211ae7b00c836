// SPDX-License-Identifier: Apache-2.0
// Sampling and judging answers, and their probabilities under a model.
#pragma once

#include <torch/types.h>

#include <vector>

#include "core/model/decoder.h"
#include "core/rl/answer.h"

namespace klab {

struct RolloutOptions {
  int64_t samples = 1;  ///< answers to each prompt
  int64_t max_new_tokens = 64;
  std::vector<int64_t> stop;  ///< end tokens
  double temperature = 0;     ///< 0: the most probable tokens
  uint64_t seed = 0;
  int64_t at_once = 1024;  ///< answers that a thread decodes together
};

/// Answers to all prompts, in their order; the prompts must outlive them. Each prompt is read once, and every thread
/// decodes a part of them. Answer j to prompt i draws from the random stream (seed, i * samples + j), whatever is
/// decoded beside it. Throws Interrupted on a signal, and Error for logits that are not finite.
std::vector<Answer> roll_out(Decoder& model, const std::vector<Prompt>& prompts, const RolloutOptions& options);

/// Sets the rewards. Throws Error for a reward outside [0, 1].
void judge(std::vector<Answer>& answers, const RewardFunction& reward,
           const std::function<std::string(int64_t)>& token_name);

/// Predictions of the tokens of answers.
struct TokenPredictions {
  torch::Tensor log_probs;  ///< [tokens] float32, differentiable
  torch::Tensor entropy;    ///< [tokens] float32, without gradient: nats
  torch::Tensor likeliest;  ///< [tokens] bool: whether the token is the most probable one
};

/// The log-probabilities of all answers' tokens under the model at a temperature, in the answers' order, in one pass
/// over prompts and answers, packed.
TokenPredictions predict_answers(Decoder& model, const std::vector<const Answer*>& answers, double temperature);

/// The same of all answers without gradients, some at a time.
TokenPredictions predict_without_gradients(Decoder& model, const std::vector<Answer>& answers, double temperature);

}  // namespace klab
