// SPDX-License-Identifier: Apache-2.0
#include "core/rl/rollout.h"

#include <ATen/Parallel.h>
#include <torch/nn/functional/activation.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/model/generation.h"

namespace klab {

using torch::Tensor;

namespace {

// Samples the answers to some prompts, and puts them in their places.
void roll_out_some(Decoder& model, const std::vector<Prompt>& prompts, const std::vector<size_t>& some,
                   const RolloutOptions& options, std::vector<Answer>& answers) {
  const auto samples = static_cast<size_t>(options.samples);
  GenerationOptions how;
  how.max_new_tokens = options.max_new_tokens;
  how.samples = options.samples;
  how.stop = options.stop;
  how.sampling.temperature = options.temperature;
  how.sampling.seed = options.seed;
  std::vector<std::vector<int64_t>> tokens;
  for (const size_t i : some) {
    tokens.push_back(prompts[i].tokens);
    for (size_t j = 0; j < samples; ++j) how.streams.push_back(i * samples + j);
  }
  Generated generated = generate(model, tokens, how);
  if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted while sampling answers");
  for (size_t i = 0; i < some.size(); ++i) {
    for (size_t j = 0; j < samples; ++j) {
      const size_t from = i * samples + j;
      answers[some[i] * samples + j] = {&prompts[some[i]], std::move(generated.tokens[from]),
                                        std::move(generated.log_probs[from])};
    }
  }
}

// The prompts' numbers, the shortest first: those of equal length are decoded together.
std::vector<size_t> by_length(const std::vector<Prompt>& prompts) {
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return prompts[a].tokens.size() < prompts[b].tokens.size(); });
  return order;
}

}  // namespace

std::vector<Answer> roll_out(Decoder& model, const std::vector<Prompt>& prompts, const RolloutOptions& options) {
  const std::vector<size_t> order = by_length(prompts);
  const auto at_once = static_cast<int64_t>(std::max<int64_t>(1, options.at_once / options.samples));
  const auto count = static_cast<int64_t>(prompts.size());
  // A part for every thread: products of so few rows gain little from several threads.
  const int64_t size = std::min(at_once, (count - 1) / at::get_num_threads() + 1), parts = (count - 1) / size + 1;
  std::vector<Answer> answers(prompts.size() * static_cast<size_t>(options.samples));
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const auto first = order.begin() + part * size;
      roll_out_some(model, prompts, {first, order.begin() + std::min(count, (part + 1) * size)}, options, answers);
    }
  });
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

namespace {

// Attention takes adjacent sequences of equal length together.
std::vector<const Answer*> shortest_first(std::vector<const Answer*> answers) {
  std::stable_sort(answers.begin(), answers.end(), [](const Answer* a, const Answer* b) {
    return a->prompt->tokens.size() + a->tokens.size() < b->prompt->tokens.size() + b->tokens.size();
  });
  return answers;
}

}  // namespace

TokenPredictions predict_answers(Decoder& model, const std::vector<const Answer*>& answers, double temperature) {
  std::vector<int64_t> inputs, offsets{0}, where, targets;
  std::map<const Answer*, int64_t> begins;
  for (const Answer* answer : shortest_first(answers)) {
    begins[answer] = offsets.back();
    inputs.insert(inputs.end(), answer->prompt->tokens.begin(), answer->prompt->tokens.end());
    inputs.insert(inputs.end(), answer->tokens.begin(), answer->tokens.end() - 1);
    offsets.push_back(static_cast<int64_t>(inputs.size()));
  }
  for (const Answer* answer : answers) {
    const int64_t first = begins[answer] + static_cast<int64_t>(answer->prompt->tokens.size()) - 1;
    for (size_t i = 0; i < answer->tokens.size(); ++i) where.push_back(first + static_cast<int64_t>(i));
    targets.insert(targets.end(), answer->tokens.begin(), answer->tokens.end());
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

TokenPredictions predict_without_gradients(Decoder& model, const std::vector<Answer>& answers, double temperature) {
  constexpr size_t kTokensAtOnce = size_t{1} << 14;
  const torch::NoGradGuard no_grad;
  std::vector<Tensor> log_probs, entropy, likeliest;
  std::vector<const Answer*> part;
  size_t tokens = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    part.push_back(&answers[i]);
    tokens += answers[i].prompt->tokens.size() + answers[i].tokens.size();
    if (tokens < kTokensAtOnce && i + 1 < answers.size()) continue;
    const TokenPredictions some = predict_answers(model, part, temperature);
    log_probs.push_back(some.log_probs);
    entropy.push_back(some.entropy);
    likeliest.push_back(some.likeliest);
    part.clear();
    tokens = 0;
  }
  return {torch::cat(log_probs), torch::cat(entropy), torch::cat(likeliest)};
}

}  // namespace klab
