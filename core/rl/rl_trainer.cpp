// SPDX-License-Identifier: Apache-2.0
#include "core/rl/rl_trainer.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/random.h"
#include "core/rl/answer_log.h"
#include "core/rl/rollout.h"
#include "core/train/make_optimizer.h"
#include "core/train/score.h"
#include "core/train/stored_tensors.h"

namespace klab {
namespace {

using torch::Tensor;
using Clock = std::chrono::steady_clock;

// Separate the random streams of the variants that prompts are of and of sampling.
constexpr uint64_t kVariantStream = 0x76617269, kRolloutStream = 0x726f6c6c;
constexpr size_t kLoggedAnswers = 32;  // of every evaluation, and of the iteration before it

// Adds the seconds of its lifetime to `sum`.
class Timer {
 public:
  explicit Timer(double& sum) : sum_(sum) {}
  ~Timer() { sum_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  double& sum_;
  Clock::time_point start_ = Clock::now();
};

// A validated copy.
TrainConfig checked(const TrainConfig& config) {
  config.validate();
  require_rl_keys(config);
  return config;
}

}  // namespace

void require_rl_keys(const TrainConfig& config) {
  const std::string must = "cannot be used in reinforcement learning";
  require(config.phases.empty(), "train.phases", "[..]", must + ": train in phases before it");
  require(!config.from_state, "train.from_state", "true", must + ": it starts with the parameters alone");
  require(config.dtype == "float32", "train.dtype", config.dtype,
          "must be float32 in reinforcement learning; rl.rollout_dtype is that of sampling");
  require(config.ema == 0, "train.ema", fmt::format("{}", config.ema), must);
  require(config.patience == 0, "train.patience", fmt::format("{}", config.patience), must);
}

RlTrainer::RlTrainer(Decoder model, const TrainConfig& config, const RlConfig& rl, RlData data, RunFolder folder,
                     const std::vector<std::string>& provenance, bool resume, torch::Device device)
    : model_(std::move(model)),
      config_(checked(config)),
      rl_(rl),
      data_(std::move(data)),
      folder_(std::move(folder)),
      device_(device),
      controller_(rl),
      curriculum_(data_.variant_weights, rl.curriculum) {
  rl_.validate();
  model_->initialise(at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(config.seed)));
  model_->to(device);
  model_->set_activation_checkpointing(config_.activation_checkpointing);
  sums_ = std::make_unique<GradientSums>(model_, model_, Parallelism{.ranks = ranks_});
  optimizer_ = make_optimizer(*model_, config_);
  if (config_.optimizer == "muonclip") clip_ = std::make_unique<QkClip>(model_, config_.max_logit);
  rollout_ = std::make_unique<RolloutModel>(model_, rl_.rollout_dtype);
  const bool kept = !folder_.path.empty(), restored = resume && kept && std::filesystem::exists(folder_.last());
  if (restored) {
    restore(folder_.last());
  } else if (!config_.from.empty()) {
    load_start(config_.from, *model_, model_tensors(*model_));
  }
  if (!kept) return;
  const int64_t done = restored ? status_.train.step : -1;  // step 0 has an evaluation
  metrics_ = std::make_unique<RlMetrics>(folder_, provenance, rl_, resume, done);
  keep_answers_until(folder_.answers(), done);
}

std::vector<Prompt> RlTrainer::draw_prompts() {
  std::vector<Prompt> prompts;
  for (int64_t i = 0; i < rl_.prompts; ++i) {
    const int64_t index = status_.train.step * rl_.prompts + i;
    Random random{static_cast<uint64_t>(config_.seed), static_cast<uint64_t>(index), kVariantStream};
    const size_t variant = curriculum_.draw(random);
    Prompt prompt = data_.prompt(variant, index);
    prompt.variant = static_cast<int64_t>(variant);
    const auto length = static_cast<int64_t>(prompt.tokens.size());
    if (length > rl_.max_prompt_tokens) {
      fail("training prompt {} has {} tokens, more than rl.max_prompt_tokens = {}", index, length,
           rl_.max_prompt_tokens);
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

void RlTrainer::iterate() {
  status_.iteration = {};
  IterationReport& report = status_.iteration;
  report.kl_weight = controller_.kl_weight;
  const std::vector<Prompt> prompts = draw_prompts();
  std::vector<Answer> answers;
  {
    const Timer timer(report.rollout_seconds);
    rollout_->refresh();
    const auto step = static_cast<uint64_t>(status_.train.step);
    answers = roll_out(rollout_->model(), prompts,
                       {rl_.samples, rl_.max_new_tokens, data_.stop, rl_.temperature,
                        Random{static_cast<uint64_t>(config_.seed), step, kRolloutStream}.next()});
  }
  {
    const Timer timer(report.reward_seconds);
    judge(answers, data_.reward, data_.token_name);
  }
  observe(answers);
  status_.train.lr = config_.lr_at(status_.train.step + 1);
  {
    const Timer timer(report.update_seconds);
    if (rl_.reset_optimizer) optimizer_ = make_optimizer(*model_, config_);
    update(answers);
  }
  controller_.after_iteration(
      {report.kl, report.entropy, std::max(report.importance.clipped_share, report.ratio_clipped)}, rl_);
  ++status_.train.step;
  const bool due = status_.train.step % config_.eval_every == 0;
  if (due) log_answers("train", answers);
}

// Means over the answers, and success rates.
void RlTrainer::observe(const std::vector<Answer>& answers) {
  IterationReport& report = status_.iteration;
  const auto count = static_cast<double>(answers.size());
  for (const Answer& answer : answers) {
    const bool stopped = std::find(data_.stop.begin(), data_.stop.end(), answer.tokens.back()) != data_.stop.end();
    report.tokens += static_cast<int64_t>(answer.tokens.size());
    report.reward += answer.reward / count;
    report.accuracy += answer.right() / count;
    report.cut_off += !stopped / count;
  }
  report.length = static_cast<double>(report.tokens) / count;
  for (auto group = answers.begin(); group != answers.end(); group += rl_.samples) {
    const auto right = std::count_if(group, group + rl_.samples, [](const Answer& one) { return one.right(); });
    curriculum_.observe(static_cast<size_t>(group->prompt->variant),
                        static_cast<double>(right) / static_cast<double>(rl_.samples));
  }
}

void RlTrainer::check_finite(double value, const char* what) const {
  if (std::isfinite(value)) return;
  throw Diverged(fmt::format(
      "the {} became {} at iteration {}: the run diverged (learning rate {:.2g}). Try a smaller train.lr or a larger "
      "rl.kl_weight.",
      what, std::isnan(value) ? std::abs(value) : value, status_.train.step + 1, status_.train.lr));
}

// Loss and token accuracy of the reference answers.
Score RlTrainer::score_references(const std::vector<Prompt>& prompts) {
  std::vector<Answer> references;
  for (const Prompt& prompt : prompts) references.push_back({&prompt, prompt.reference, {}});
  const TokenPredictions found = predict_without_gradients(model_, references, /*temperature=*/1);
  Score score;
  score.targets = found.log_probs.numel();
  score.targets_right = found.likeliest.sum().item<int64_t>();
  score.loss_sum = -found.log_probs.to(torch::kDouble).sum().item<double>();
  return score;
}

RlEvaluation RlTrainer::evaluate(const std::vector<Prompt>& prompts) {
  const torch::NoGradGuard no_grad;
  RlEvaluation evaluation;
  std::vector<Answer> answers =
      roll_out(model_, prompts, {1, rl_.max_new_tokens, data_.stop, 0, 0, std::max(config_.batch, rl_.answers())});
  judge(answers, data_.reward, data_.token_name);
  evaluation.score = score_references(prompts);
  evaluation.score.sequences = static_cast<int64_t>(answers.size());
  for (const Answer& answer : answers) {
    evaluation.score.sequences_right += answer.right();
    evaluation.reward += answer.reward / static_cast<double>(answers.size());
    evaluation.length += static_cast<double>(answer.tokens.size()) / static_cast<double>(answers.size());
  }
  for (const Batch& batch : data_.supervised) {
    evaluation.supervised += score_batch(model_, batch.map([&](const Tensor& x) { return x.to(device_); }), nullptr);
  }
  if (&prompts == &data_.validation) log_answers("validation", answers);
  return evaluation;
}

Outcome RlTrainer::run(const std::function<Next(const RlStatus&, bool)>& watch) {
  if (data_.validation.empty()) refuse("reinforcement learning needs validation prompts");
  try {
    return iterate_to_the_end(watch);
  } catch (const Interrupted&) {
    save(folder_.last());  // answers are sampled before anything changes
    throw;
  }
}

Outcome RlTrainer::iterate_to_the_end(const std::function<Next(const RlStatus&, bool)>& watch) {
  TrainStatus& train = status_.train;
  const double seconds_before = train.seconds;
  const Clock::time_point begin = Clock::now();
  for (bool iterated = false;; iterated = true) {
    const bool last = train.step == config_.steps, due = last || train.step % config_.eval_every == 0;
    const bool evaluated = due && evaluated_step_ != train.step;
    if (evaluated) evaluate_now();
    const Next next = iterated || evaluated ? watch(status_, evaluated) : Next::step;
    const int signal = interrupt_requested();
    const bool success = due && succeeded(), stop = next == Next::stop && !last;
    const bool keep = iterated && train.step % config_.checkpoint_every == 0;
    if (last || success || stop || signal != 0 || keep) save(folder_.last());
    if (success) return Outcome::success;
    if (last) return Outcome::steps_done;
    if (stop) return Outcome::stopped;
    if (signal != 0) throw Interrupted(signal, fmt::format("interrupted after iteration {}", train.step));
    iterate();
    train.seconds = seconds_before + std::chrono::duration<double>(Clock::now() - begin).count();
    train.tokens_per_second = status_.iteration.tokens_per_second();
    if (metrics_) metrics_->write_iteration(status_);
  }
}

void RlTrainer::write_row(const char* split, int64_t step, const RlEvaluation& evaluation) {
  if (metrics_) metrics_->write_evaluation(step, split, evaluation, status_.train.seconds);
}

void RlTrainer::evaluate_now() {
  status_.evaluation = evaluate(data_.validation);
  evaluated_step_ = status_.train.step;
  status_.train.validation = status_.evaluation.score;
  check_finite(status_.train.validation.loss_sum, "validation loss");
  write_row("validation", status_.train.step, status_.evaluation);
  if (!data_.supervised.empty()) {
    RlEvaluation supervised;
    supervised.score = status_.evaluation.supervised;
    write_row("supervised", status_.train.step, supervised);
  }
  if (status_.train.keep_if_best()) save(folder_.best());
}

TestScores RlTrainer::test(const std::vector<Prompt>& prompts) {
  const RlEvaluation last = evaluate(prompts);
  TestScores scores{last.score, last.score};
  if (status_.train.best_step != status_.train.step && !folder_.path.empty()) {
    with_parameters_of(folder_.best(), *model_, [&](const Checkpoint&) {
      const RlEvaluation best = evaluate(prompts);
      scores.best = best.score;
      write_row("test", status_.train.best_step, best);
    });
  }
  write_row("test", status_.train.step, last);
  if (metrics_) metrics_->sync();
  return scores;
}

std::map<std::string, Tensor> RlTrainer::tensors() const {
  std::map<std::string, Tensor> all = model_tensors(*model_);
  if (!rl_.reset_optimizer) all.merge(optimizer_->state());
  return all;
}

Checkpoint RlTrainer::checkpoint() const {
  const auto json = [](const auto& value) { return nlohmann::ordered_json(value).dump(); };
  Checkpoint checkpoint;
  checkpoint.tensors = tensors();
  store_progress(status_.train, checkpoint);
  checkpoint.fields["updates"] = json(updates_);
  checkpoint.fields["evaluated_step"] = json(evaluated_step_);
  checkpoint.fields["controller"] = to_object(controller_).dump();
  checkpoint.fields["success_rates"] = json(curriculum_.success_rates());
  checkpoint.fields["iterations_without_signal"] = json(status_.iterations_without_signal);
  return checkpoint;
}

void RlTrainer::restore(const std::string& path) {
  const std::map<std::string, Tensor> own = tensors();
  const Checkpoint from = load_stored(path, *model_, own);
  copy_stored(from, path, own);
  restore_progress(from, status_.train);
  updates_ = from.json_field<int64_t>("updates");
  evaluated_step_ = from.json_field<int64_t>("evaluated_step");
  from_object(from.json_field<nlohmann::ordered_json>("controller"), controller_);
  curriculum_.restore(from.json_field<std::vector<double>>("success_rates"));
  status_.iterations_without_signal = from.json_field<int64_t>("iterations_without_signal");
}

void RlTrainer::save(const std::string& path) const {
  if (folder_.path.empty()) return;
  metrics_->sync();
  save_checkpoint(path, checkpoint());
}

void RlTrainer::log_answers(const char* split, const std::vector<Answer>& answers) {
  if (folder_.path.empty()) return;
  std::vector<LoggedAnswer> lines;
  for (size_t i = 0; i < std::min(kLoggedAnswers, answers.size()); ++i) {
    lines.push_back(logged(status_.train.step, split, answers[i], data_.token_name));
  }
  append_answers(folder_.answers(), lines);
}

}  // namespace klab
