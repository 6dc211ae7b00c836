// SPDX-License-Identifier: Apache-2.0
#include "experiments/bench/rollout.h"

#include <torch/nn/module.h>

#include <chrono>

#include "core/base/random.h"
#include "core/rl/rl_trainer.h"
#include "core/rl/rollout.h"
#include "experiments/bench/timing.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

constexpr int64_t kRolloutVocabulary = 20, kEndless = 1'000'000, kWarmUp = 2;
constexpr size_t kFewestIterations = 3;
constexpr int kObservedRollouts = 3;

Prompt random_prompt(const RolloutWorkload& workload, int64_t index) {
  Random random{static_cast<uint64_t>(index)};
  const int64_t spread = workload.prompt_tokens / 4;
  const auto more = static_cast<int64_t>(random.below(static_cast<uint64_t>(2 * spread + 1)));
  Prompt prompt{{}, {0}};
  for (int64_t i = 0; i < workload.prompt_tokens - spread + more; ++i) {
    prompt.tokens.push_back(static_cast<int64_t>(random.below(kRolloutVocabulary)));
  }
  return prompt;
}

// Differs between answers, so that no group is left out of the update.
double random_reward(const Attempt& attempt) {
  uint64_t hash = 0;
  for (const int64_t token : attempt.answer) hash = 31 * hash + static_cast<uint64_t>(token);
  return Random{hash}.uniform();
}

RlData rollout_data(const RolloutWorkload& workload) {
  RlData data;
  data.prompt = [workload](size_t, int64_t index) { return random_prompt(workload, index); };
  data.variant_weights = {1};
  data.validation = {random_prompt(workload, -1)};
  data.reward = random_reward;
  data.token_name = [](int64_t token) { return std::to_string(token); };
  return data;
}

std::vector<IterationReport> run_iterations(RlTrainer& trainer, double budget) {
  std::vector<IterationReport> timed;
  double sum = 0;
  trainer.run([&](const RlStatus& status, bool) {
    if (status.train.step <= kWarmUp) return Next::step;
    timed.push_back(status.iteration);
    sum += status.iteration.seconds();
    return sum > budget && timed.size() >= kFewestIterations ? Next::stop : Next::step;
  });
  return timed;
}

double median_of(const std::vector<IterationReport>& reports, double IterationReport::*seconds) {
  std::vector<double> values;
  for (const IterationReport& report : reports) values.push_back(report.*seconds);
  return median(values);
}

// Samples the answers to the first prompts with the operators observed, which takes longer than without.
void add_operator_times(RlTrainer& trainer, const RolloutWorkload& workload, RolloutSpeed& speed) {
  RolloutModel rollout(trainer.model(), workload.dtype);
  rollout.refresh();
  std::vector<Prompt> prompts;
  for (int64_t i = 0; i < workload.prompts; ++i) prompts.push_back(random_prompt(workload, i));
  OperatorTimes times;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kObservedRollouts; ++i) {
    roll_out(rollout.model(), prompts, {workload.samples, workload.new_tokens, {}, 1, static_cast<uint64_t>(i)});
    times.end_step();
  }
  const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (const std::string& category : rollout_categories()) speed.shares[category] = 0;
  speed.operators = times.slowest_first(kObservedRollouts);
  double known = 0;
  for (const OperatorTime& one : speed.operators) {
    const auto found = speed.shares.find(one.category);
    if (found == speed.shares.end()) continue;
    const double share = 1e-3 * one.milliseconds * kObservedRollouts / all;
    found->second += share;
    known += share;
  }
  speed.shares["rest"] = 1 - known;
}

}  // namespace

const std::vector<std::string>& rollout_categories() {
  static const std::vector<std::string> all = {"products", "elementwise", "other ATen", "rest"};
  return all;
}

RunConfig RolloutWorkload::config() const {
  std::vector<Assignment> keys = model_keys(pattern, layers, width, head_dim);
  keys.insert(keys.end(), {{"task.name", "question", ""},
                           {"model.vocab", kRolloutVocabulary, ""},
                           {"train.steps", kEndless, ""},
                           {"train.eval_every", kEndless, ""},
                           {"train.lr", 1e-4, ""},
                           {"rl.prompts", prompts, ""},
                           {"rl.samples", samples, ""},
                           {"rl.max_new_tokens", new_tokens, ""},
                           {"rl.max_prompt_tokens", 2 * prompt_tokens, ""},
                           {"rl.rollout_dtype", dtype, ""}});
  return make_run_config(keys);
}

RolloutSpeed measure_rollout(const RolloutWorkload& workload, double seconds) {
  const RunConfig config = workload.config();
  RlTrainer trainer(make_model(config), config.train, *config.rl, rollout_data(workload), {}, {}, /*resume=*/false,
                    torch::kCPU);
  const std::vector<IterationReport> reports = run_iterations(trainer, seconds);
  RolloutSpeed speed;
  speed.iterations = static_cast<int64_t>(reports.size());
  speed.tokens = reports.front().tokens;
  speed.rollout_seconds = median_of(reports, &IterationReport::rollout_seconds);
  speed.reward_seconds = median_of(reports, &IterationReport::reward_seconds);
  speed.update_seconds = median_of(reports, &IterationReport::update_seconds);
  add_operator_times(trainer, workload, speed);
  return speed;
}

}  // namespace klab
