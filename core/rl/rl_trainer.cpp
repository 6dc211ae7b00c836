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
#include "core/train/metrics_file.h"
#include "core/train/score.h"
#include "core/train/stored_tensors.h"

namespace klab {
namespace {

using torch::Tensor;
using Clock = std::chrono::steady_clock;

// Separate the random streams of the variants that prompts are of and of sampling.
constexpr uint64_t kVariantStream = 0x76617269, kRolloutStream = 0x726f6c6c;
constexpr size_t kLoggedAnswers = 32;                // of every evaluation, and of the iteration before it
constexpr int64_t kTokensAtOnce = int64_t{1} << 14;  // without gradients

const std::vector<std::string> kColumns = {"step",
                                           "split",
                                           "loss",
                                           "acc_tok",
                                           "acc_seq",
                                           "reward",
                                           "accuracy",
                                           "kl",
                                           "entropy",
                                           "length",
                                           "cut_off",
                                           "all_right",
                                           "all_equal",
                                           "ptx_loss",
                                           "lr",
                                           "grad_norm",
                                           "kl_weight",
                                           "updates",
                                           "ratio_clipped",
                                           "importance_mean",
                                           "importance_max",
                                           "importance_clipped",
                                           "effective_samples",
                                           "tokens_per_second",
                                           "rollout_tokens_per_second",
                                           "update_tokens_per_second",
                                           "rollout_share",
                                           "reward_share",
                                           "update_share",
                                           "seconds"};

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

std::vector<const Answer*> pointers(const std::vector<Answer>& answers) {
  std::vector<const Answer*> all;
  for (const Answer& answer : answers) all.push_back(&answer);
  return all;
}

int64_t tokens_of(const Answer& answer) {
  return static_cast<int64_t>(answer.prompt->tokens.size() + answer.tokens.size());
}

// Without gradients, some answers at a time.
TokenPredictions predict_all(Decoder& model, const std::vector<Answer>& answers, double temperature) {
  const torch::NoGradGuard no_grad;
  std::vector<Tensor> log_probs, entropy, likeliest;
  std::vector<const Answer*> part;
  int64_t tokens = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    part.push_back(&answers[i]);
    tokens += tokens_of(answers[i]);
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

Tensor sampled_log_probs(const std::vector<Answer>& answers, const torch::Device& device) {
  std::vector<float> all;
  for (const Answer& answer : answers) all.insert(all.end(), answer.log_probs.begin(), answer.log_probs.end());
  return torch::tensor(all).to(device);
}

// The tokens of some of the answers, of which all tokens are given; without log_probs.
PolicyTokens select_tokens(const PolicyTokens& all, const std::vector<size_t>& chosen) {
  std::vector<int64_t> order(chosen.begin(), chosen.end());
  const Tensor answers = torch::tensor(order, torch::kLong).to(all.answer.device());
  // The place of every answer among the chosen, -1 if it is not.
  Tensor place = torch::full({all.advantage.size(0)}, -1, all.answer.options());
  place.index_put_({answers}, torch::arange(answers.size(0), all.answer.options()));
  const Tensor places = place.index_select(0, all.answer);
  const Tensor where = places.ge(0).nonzero().squeeze(-1);
  return {{},
          all.before.index_select(0, where),
          all.weights.index_select(0, where),
          places.index_select(0, where),
          all.advantage.index_select(0, answers)};
}

// The rewards [groups, samples] from which advantages are computed.
Tensor total_rewards(const std::vector<Answer>& answers, const RlConfig& rl) {
  std::vector<float> all;
  const auto samples = static_cast<size_t>(rl.samples);
  for (size_t first = 0; first < answers.size(); first += samples) {
    std::vector<int64_t> lengths;
    std::vector<bool> right;
    for (size_t i = first; i < first + samples; ++i) {
      lengths.push_back(static_cast<int64_t>(answers[i].tokens.size()));
      right.push_back(answers[i].right());
    }
    const std::vector<double> short_rewards = length_rewards(lengths, right);
    for (size_t i = 0; i < samples; ++i) {
      all.push_back(static_cast<float>(answers[first + i].reward + rl.length_penalty * short_rewards[i]));
    }
  }
  return torch::tensor(all).view({-1, rl.samples});
}

double share(int64_t part, size_t all) { return static_cast<double>(part) / static_cast<double>(all); }

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
  optimizer_ = make_optimizer(*model_, config_);
  if (config_.optimizer == "muonclip") clip_ = std::make_unique<QkClip>(model_, config_.max_logit);
  rollout_ = std::make_unique<RolloutModel>(model_, rl_.rollout_dtype);
  const bool kept = !folder_.path.empty();
  if (resume && kept && std::filesystem::exists(folder_.last())) {
    restore(folder_.last());
  } else if (!config_.from.empty()) {
    load_start(config_.from, *model_);
  }
  if (!kept) return;
  metrics_ = open_metrics(folder_, provenance, kColumns, resume, status_.train.step);
  keep_answers_until(folder_.answers(), resume ? status_.train.step : -1);
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
  const auto samples = static_cast<size_t>(rl_.samples);
  for (size_t first = 0; first < answers.size(); first += samples) {
    const auto begin = answers.begin() + static_cast<int64_t>(first);
    const int64_t right = std::count_if(begin, begin + rl_.samples, [](const Answer& one) { return one.right(); });
    curriculum_.observe(static_cast<size_t>(answers[first].prompt->variant), share(right, samples));
  }
}

// The answers of each minibatch. Groups without a signal are left out: those of right answers alone, and those whose
// rewards are equal. The others are dealt out in turn.
std::vector<std::vector<size_t>> RlTrainer::deal_groups(const std::vector<Answer>& answers, const Tensor& rewards) {
  IterationReport& report = status_.iteration;
  const auto groups = static_cast<size_t>(rewards.size(0));
  std::vector<size_t> with_signal;
  int64_t all_right = 0, all_equal = 0;
  for (size_t group = 0; group < groups; ++group) {
    const Tensor row = rewards[static_cast<int64_t>(group)];
    const auto begin = answers.begin() + static_cast<int64_t>(group) * rl_.samples;
    if (std::all_of(begin, begin + rl_.samples, [](const Answer& one) { return one.right(); })) {
      ++all_right;
    } else if (row.eq(row[0]).all().item<bool>()) {
      ++all_equal;
    } else {
      with_signal.push_back(group);
    }
  }
  report.all_right = share(all_right, groups);
  report.all_equal = share(all_equal, groups);
  status_.iterations_without_signal = with_signal.empty() ? status_.iterations_without_signal + 1 : 0;
  const auto samples = static_cast<size_t>(rl_.samples);
  std::vector<std::vector<size_t>> dealt(std::min(with_signal.size(), static_cast<size_t>(controller_.minibatches)));
  for (size_t i = 0; i < with_signal.size(); ++i) {
    for (size_t j = 0; j < samples; ++j) dealt[i % dealt.size()].push_back(with_signal[i] * samples + j);
  }
  return dealt;
}

void RlTrainer::update(const std::vector<Answer>& answers) {
  IterationReport& report = status_.iteration;
  const TokenPredictions before = predict_all(model_, answers, rl_.temperature);
  report.entropy = before.entropy.mean().item<double>();
  check_finite(report.entropy, "entropy");
  report.importance = truncated_importance(before.log_probs, sampled_log_probs(answers, device_), rl_.max_importance);
  std::vector<int64_t> lengths;
  for (const Answer& answer : answers) lengths.push_back(static_cast<int64_t>(answer.tokens.size()));
  const Tensor rewards = total_rewards(answers, rl_);
  const Tensor of_token =
      torch::arange(static_cast<int64_t>(answers.size())).repeat_interleave(torch::tensor(lengths)).to(device_);
  const PolicyTokens all{
      {}, before.log_probs, report.importance.weights, of_token, advantages(rewards, rl_).reshape({-1}).to(device_)};

  const std::vector<const Answer*> given = pointers(answers);
  for (const std::vector<size_t>& minibatch : deal_groups(answers, rewards)) {
    optimizer_->zero_grad();
    accumulate_gradients(given, minibatch, all);
    if (rl_.ptx_weight > 0) report.ptx_loss += add_ptx_gradients();
    apply_gradients();
  }
  if (report.updates == 0) return;
  const auto updates = static_cast<double>(report.updates);
  for (double* sum : {&report.loss, &report.ptx_loss, &report.grad_norm, &report.ratio_clipped}) *sum /= updates;
  report.kl = divergence(before.log_probs, predict_all(model_, answers, rl_.temperature).log_probs);
  check_finite(report.kl, "divergence of the policy");
}

// Backward of the mean loss over the answers of a minibatch, in train.accumulate parts.
void RlTrainer::accumulate_gradients(const std::vector<const Answer*>& answers, const std::vector<size_t>& minibatch,
                                     const PolicyTokens& all) {
  IterationReport& report = status_.iteration;
  const size_t size = (minibatch.size() - 1) / static_cast<size_t>(config_.accumulate) + 1;
  for (size_t first = 0; first < minibatch.size(); first += size) {
    const size_t end = std::min(minibatch.size(), first + size);
    const std::vector<size_t> part(minibatch.begin() + static_cast<int64_t>(first),
                                   minibatch.begin() + static_cast<int64_t>(end));
    std::vector<const Answer*> chosen;
    for (const size_t i : part) chosen.push_back(answers[i]);
    PolicyTokens tokens = select_tokens(all, part);
    tokens.log_probs = predict_answers(model_, chosen, rl_.temperature).log_probs;
    const PolicyLoss loss = policy_loss(tokens, rl_, controller_.kl_weight);
    const double weight = share(static_cast<int64_t>(part.size()), minibatch.size());
    const Tensor weighted = loss.mean * weight;
    check_finite(weighted.item<double>(), "policy loss");
    weighted.backward();
    report.loss += weighted.item<double>();
    report.ratio_clipped += weight * loss.clipped_share;
  }
}

double RlTrainer::add_ptx_gradients() {
  const Batch batch = data_.ptx(updates_).map([&](const Tensor& x) { return x.to(device_); });
  Tensor loss;
  const Score score = score_batch(model_, batch, &loss);
  check_finite(score.loss(), "cross-entropy on rl.ptx_tasks");
  (loss * rl_.ptx_weight).backward();
  return score.loss();
}

void RlTrainer::apply_gradients() {
  const double norm = optimizer_->clip_grad_norm(config_.max_grad_norm);
  check_finite(norm, "norm of the gradients");
  optimizer_->step(status_.train.lr);
  if (clip_) status_.train.largest_logit = std::max(status_.train.largest_logit, clip_->after_step());
  model_->after_step();
  status_.iteration.grad_norm += norm;
  status_.train.grad_norm = norm;
  ++status_.iteration.updates;
  ++updates_;
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
  const TokenPredictions found = predict_all(model_, references, /*temperature=*/1);
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
  TrainStatus& train = status_.train;
  if (data_.validation.empty()) refuse("reinforcement learning needs validation prompts");
  if (train.step == 0) {
    evaluate_now();
    if (watch(status_, true) == Next::stop) return Outcome::stopped;
  }
  if (succeeded()) return Outcome::success;
  const double seconds_before = train.seconds;
  const Clock::time_point begin = Clock::now();
  while (train.step < config_.steps) {
    try {
      iterate();
    } catch (const Interrupted&) {
      save(folder_.last());  // the iteration has changed nothing yet
      throw;
    }
    train.seconds = seconds_before + std::chrono::duration<double>(Clock::now() - begin).count();
    train.tokens_per_second = static_cast<double>(status_.iteration.tokens) / status_.iteration.seconds();
    write_train_row();
    const bool last = train.step == config_.steps;
    const bool evaluated = last || train.step % config_.eval_every == 0;
    if (evaluated) evaluate_now();
    const Next next = watch(status_, evaluated);
    const int signal = interrupt_requested();
    const bool success = evaluated && succeeded(), stop = next == Next::stop && !last;
    if (last || success || stop || signal != 0 || train.step % config_.checkpoint_every == 0) save(folder_.last());
    if (success) return Outcome::success;
    if (stop) return Outcome::stopped;
    if (signal != 0) throw Interrupted(signal, fmt::format("interrupted after iteration {}", train.step));
  }
  return Outcome::steps_done;
}

void RlTrainer::evaluate_now() {
  status_.evaluation = evaluate(data_.validation);
  status_.train.validation = status_.evaluation.score;
  check_finite(status_.train.validation.loss_sum, "validation loss");
  write_row(status_.train.step, "validation", status_.evaluation);
  if (!data_.supervised.empty()) {
    RlEvaluation supervised;
    supervised.score = status_.evaluation.supervised;
    write_row(status_.train.step, "supervised", supervised);
  }
  TrainStatus& train = status_.train;
  if (train.best.targets > 0 && !better(train.validation.metrics(), train.best.metrics())) return;
  train.best = train.validation;
  train.best_step = train.step;
  save(folder_.best());
}

TestScores RlTrainer::test(const std::vector<Prompt>& prompts) {
  const RlEvaluation last = evaluate(prompts);
  TestScores scores{last.score, last.score};
  if (status_.train.best_step != status_.train.step && !folder_.path.empty()) {
    Checkpoint kept;  // of the model alone
    kept.tensors = model_tensors(*model_);
    for (auto& [name, tensor] : kept.tensors) tensor = tensor.detach().clone();
    copy_stored(load_checkpoint(folder_.best(), "model."), folder_.best(), model_tensors(*model_));
    const RlEvaluation best = evaluate(prompts);
    scores.best = best.score;
    copy_stored(kept, "", model_tensors(*model_));
    write_row(status_.train.best_step, "test", best);
  }
  write_row(status_.train.step, "test", last);
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
  checkpoint.fields = {{"step", json(status_.train.step)},
                       {"seconds", json(status_.train.seconds)},
                       {"threads", json(at::get_num_threads())},
                       {"updates", json(updates_)},
                       {"controller", to_object(controller_).dump()},
                       {"success_rates", json(curriculum_.success_rates())},
                       {"iterations_without_signal", json(status_.iterations_without_signal)},
                       {"validation", to_object(status_.train.validation).dump()},
                       {"best", to_object(status_.train.best).dump()},
                       {"best_step", json(status_.train.best_step)},
                       {"grad_norm", json(status_.train.grad_norm)}};
  return checkpoint;
}

void RlTrainer::restore(const std::string& path) {
  const Checkpoint from = load_checkpoint(path);
  refuse_other_model(from, path, model_tensors(*model_));
  copy_stored(from, path, tensors());
  status_.train.step = from.json_field<int64_t>("step");
  status_.train.seconds = from.json_field<double>("seconds");
  updates_ = from.json_field<int64_t>("updates");
  from_object(from.json_field<nlohmann::ordered_json>("controller"), controller_);
  curriculum_.restore(from.json_field<std::vector<double>>("success_rates"));
  status_.iterations_without_signal = from.json_field<int64_t>("iterations_without_signal");
  status_.train.validation = from.json_field<Score>("validation");
  status_.train.best = from.json_field<Score>("best");
  status_.train.best_step = from.json_field<int64_t>("best_step");
  status_.train.grad_norm = from.json_field<double>("grad_norm");
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

void RlTrainer::write_train_row() {
  if (!metrics_) return;
  const IterationReport& report = status_.iteration;
  const Importance& importance = report.importance;
  const double seconds = report.seconds();
  const auto tokens = static_cast<double>(report.tokens);
  const auto number = [](double x) { return fmt::format("{:.6g}", x); };
  metrics_->row({fmt::format("{}", status_.train.step),
                 "train",
                 number(report.loss),
                 "",
                 number(report.accuracy),
                 number(report.reward),
                 number(report.accuracy),
                 number(report.kl),
                 number(report.entropy),
                 number(report.length),
                 number(report.cut_off),
                 number(report.all_right),
                 number(report.all_equal),
                 rl_.ptx_weight > 0 ? number(report.ptx_loss) : "",
                 number(status_.train.lr),
                 number(report.grad_norm),
                 number(report.kl_weight),
                 fmt::format("{}", report.updates),
                 rl_.loss == "grpo" ? number(report.ratio_clipped) : "",
                 number(importance.mean),
                 number(importance.largest_ratio),
                 number(importance.clipped_share),
                 number(importance.effective_sample_size),
                 fmt::format("{:.0f}", tokens / seconds),
                 fmt::format("{:.0f}", tokens / report.rollout_seconds),
                 fmt::format("{:.0f}", tokens / report.update_seconds),
                 number(report.rollout_seconds / seconds),
                 number(report.reward_seconds / seconds),
                 number(report.update_seconds / seconds),
                 fmt::format("{:.2f}", status_.train.seconds)});
}

void RlTrainer::write_row(int64_t step, const char* split, const RlEvaluation& evaluation) {
  if (!metrics_) return;
  const Score& score = evaluation.score;
  const bool answered = evaluation.length > 0;  // not for supervised data
  std::vector<std::string> row(kColumns.size());
  const auto set = [&](const char* column, double value) {
    const auto found = std::find(kColumns.begin(), kColumns.end(), column);
    row[static_cast<size_t>(found - kColumns.begin())] = fmt::format("{:.6f}", value);
  };
  row[0] = fmt::format("{}", step);
  row[1] = split;
  set("loss", score.loss());
  set("acc_tok", score.acc_tok());
  set("acc_seq", score.acc_seq());
  set("accuracy", score.acc_seq());
  if (answered) set("reward", evaluation.reward);
  if (answered) set("length", evaluation.length);
  set("seconds", status_.train.seconds);
  metrics_->row(row);
}

}  // namespace klab
