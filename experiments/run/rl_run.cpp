// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/rl_run.h"

#include <torch/nn/module.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/text.h"
#include "experiments/run/run.h"
#include "tasks/prompt_answer.h"

namespace klab {
namespace {

Prompt prompt_of(const Task& task, int64_t seed, Split split, int64_t index) {
  PromptAnswer row = prompt_and_answer(task.example(seed, split, index));
  return {std::move(row.prompt), std::move(row.answer)};
}

// The variant's task, which must name its tokens as the first one does: a prompt of one would be read as one of
// another.
std::shared_ptr<const Task> same_tokens(const RunConfig& config, const Task& first, const TaskVariant& variant) {
  std::shared_ptr<const Task> other = variant.task.make();
  if (other->end_token() != first.end_token()) {
    refuse("mixture.tasks, rl.ptx_tasks: '{}' has another end token than task.name = {}", variant.name,
           config.task.name);
  }
  for (int64_t token = 0; token < std::min(first.vocabulary(), other->vocabulary()); ++token) {
    if (first.token_name(token) == other->token_name(token)) continue;
    refuse("mixture.tasks, rl.ptx_tasks: token {} is '{}' in '{}', but '{}' in task.name = {}", token,
           other->token_name(token), variant.name, first.token_name(token), config.task.name);
  }
  return other;
}

void require_right_reference(const RunConfig& config, const RlData& data) {
  for (size_t variant = 0; variant < data.variant_weights.size(); ++variant) {
    const Prompt prompt = data.prompt(variant, 0);
    const Attempt attempt{prompt.tokens, prompt.reference, prompt.reference, data.token_name};
    double reward = 0;
    try {
      reward = data.reward(attempt);
    } catch (const Error& error) {
      refuse("reward.name = {} cannot judge answers of task.name = {}: {}", config.reward.name, config.task.name,
             error.what());
    }
    if (reward >= 1) continue;
    refuse(
        "reward.name = {}: it gives {} to the reference answer '{}' of the prompt '{}' (task.name = {}): a verifiable "
        "reward must give 1 to right answers",
        config.reward.name, reward, attempt.text(prompt.reference), attempt.text(prompt.tokens), config.task.name);
  }
}

// train.eval_examples of all variants together.
std::vector<Batch> supervised_batches(const RunConfig& config) {
  std::vector<Batch> all;
  const std::vector<TaskVariant> tasks = config.ptx_tasks();
  const auto count = static_cast<int64_t>(tasks.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t examples = (config.train.eval_examples + count - 1 - i) / count;
    for (Batch& batch : held_out_batches(tasks[static_cast<size_t>(i)].task, config.train.seed, examples,
                                         config.train.batch, Split::validation)) {
      all.push_back(std::move(batch));
    }
  }
  return all;
}

RlData rl_data(const RunConfig& config) {
  RlData data;
  const std::shared_ptr<const Task> first = config.task.make();
  std::vector<std::shared_ptr<const Task>> tasks;
  for (const TaskVariant& variant : config.trained_tasks()) {
    tasks.push_back(tasks.empty() ? first : same_tokens(config, *first, variant));
    data.variant_weights.push_back(static_cast<double>(variant.weight));
  }
  for (const TaskVariant& variant : config.ptx_tasks()) same_tokens(config, *first, variant);
  data.prompt = [tasks, seed = config.train.seed](size_t variant, int64_t index) {
    return prompt_of(*tasks[variant], seed, Split::train, index);
  };
  data.reward = config.reward.make();
  data.token_name = [first, vocabulary = first->vocabulary()](int64_t token) {
    return token < vocabulary ? first->token_name(token) : fmt::format("<{}>", token);
  };
  if (const auto end = first->end_token()) data.stop = {*end};
  data.validation = held_out_prompts(config, config.train.eval_examples, Split::validation);
  if (!config.rl->ptx_tasks.empty()) {
    data.ptx = mixture_source(config.ptx_tasks(), config.train.seed, config.train.batch);
    data.supervised = supervised_batches(config);
  }
  require_right_reference(config, data);
  return data;
}

}  // namespace

std::vector<Prompt> held_out_prompts(const RunConfig& config, int64_t examples, Split split) {
  const std::vector<TaskVariant> variants = config.trained_tasks();
  std::vector<std::unique_ptr<Task>> tasks;
  int64_t finite = 0;
  bool all_finite = true;
  for (const TaskVariant& variant : variants) {
    tasks.push_back(variant.task.make());
    const auto count = tasks.back()->examples(split);
    finite += count.value_or(0);
    all_finite = all_finite && count;
  }
  if (all_finite) examples = std::min(examples, finite);
  const MixtureDraw draw(variants, config.train.seed);
  std::vector<Prompt> prompts;
  std::vector<int64_t> used(tasks.size());
  for (int64_t i = 0; i < examples; ++i) {
    const size_t variant = draw(i);
    prompts.push_back(prompt_of(*tasks[variant], config.train.seed, split, used[variant]++));
    prompts.back().variant = static_cast<int64_t>(variant);
  }
  return prompts;
}

RlTrainer make_rl_trainer(const RunConfig& config, const RunFolder& folder, const std::vector<std::string>& provenance,
                          bool resume, const torch::Device& device) {
  return {make_model(config), config.train, *config.rl, rl_data(config), folder, provenance, resume, device};
}

}  // namespace klab
