// SPDX-License-Identifier: Apache-2.0
#include "core/rl/rollout.h"

#include <torch/nn/functional/activation.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/model/generation.h"

namespace klab {

using torch::Tensor;

std::vector<Answer> roll_out(Decoder& model, const std::vector<Prompt>& prompts, const RolloutOptions& options) {
  GenerationOptions how;
  how.max_new_tokens = options.max_new_tokens;
  how.samples = options.samples;
  how.stop = options.stop;
  how.sampling.temperature = options.temperature;
  std::vector<Answer> answers;
  const auto together = static_cast<size_t>(std::max<int64_t>(1, options.at_once / options.samples));
  for (size_t first = 0; first < prompts.size(); first += together) {
    const size_t end = std::min(prompts.size(), first + together);
    std::vector<std::vector<int64_t>> tokens;
    for (size_t i = first; i < end; ++i) tokens.push_back(prompts[i].tokens);
    how.sampling.seed = Random{options.seed, first}.next();
    Generated generated = generate(model, tokens, how);
    if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted while sampling answers");
    for (size_t i = 0; i < generated.tokens.size(); ++i) {
      const Prompt& prompt = prompts[first + i / static_cast<size_t>(options.samples)];
      answers.push_back({&prompt, std::move(generated.tokens[i]), std::move(generated.log_probs[i])});
    }
  }
  return answers;
}

void judge(std::vector<Answer>& answers, const RewardFunction& reward,
           const std::function<std::string(int64_t)>& token_name) {
  for (Answer& answer : answers) {
    answer.reward = reward({answer.prompt->tokens, answer.prompt->reference, answer.tokens, token_name});
    if (!(answer.reward >= 0 && answer.reward <= 1)) {
      fail("the reward function gave {}: rewards must lie in [0, 1], and 1 must be right", answer.reward);
    }
  }
}

TokenPredictions predict_answers(Decoder& model, const std::vector<const Answer*>& answers, double temperature) {
  std::vector<int64_t> inputs, offsets{0}, where, targets;
  for (const Answer* answer : answers) {
    const std::vector<int64_t>& prompt = answer->prompt->tokens;
    const int64_t last = offsets.back() + static_cast<int64_t>(prompt.size()) - 1;  // of the prompt
    for (size_t i = 0; i < answer->tokens.size(); ++i) where.push_back(last + static_cast<int64_t>(i));
    inputs.insert(inputs.end(), prompt.begin(), prompt.end());
    inputs.insert(inputs.end(), answer->tokens.begin(), answer->tokens.end() - 1);
    targets.insert(targets.end(), answer->tokens.begin(), answer->tokens.end());
    offsets.push_back(static_cast<int64_t>(inputs.size()));
  }
  const auto tensor = [&](const std::vector<int64_t>& numbers) {
    return torch::tensor(numbers, torch::kLong).to(model->device());
  };
  const Tensor hidden = model->hidden(tensor(inputs).unsqueeze(0), Sequences{tensor(offsets)});
  const Tensor logits = model->head(hidden.squeeze(0).index_select(0, tensor(where))).to(torch::kFloat);
  const Tensor all = torch::log_softmax(temperature == 1 ? logits : logits / temperature, -1);
  const Tensor known = all.detach();
  const Tensor drawn = tensor(targets);
  return {all.gather(1, drawn.unsqueeze(1)).squeeze(1), -(known.exp() * known).sum(-1), known.argmax(-1).eq(drawn)};
}

}  // namespace klab
