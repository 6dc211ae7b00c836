// SPDX-License-Identifier: Apache-2.0
#include "core/train/trainer.h"

#include <ATen/Parallel.h>
#include <torch/nn/module.h>

#include <chrono>
#include <cmath>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/train/make_optimizer.h"
#include "core/train/metrics_file.h"
#include "core/train/shared_checkpoint.h"
#include "core/train/stored_tensors.h"

namespace klab {
namespace {

using torch::Tensor;
using Clock = std::chrono::steady_clock;

const std::vector<std::string> kColumns = {
    "step",       "split",   "loss",   "acc_tok",       "acc_seq",      "lr", "grad_norm", "tokens_per_second",
    "wait_share", "seconds", "excess", "bits_per_byte", "largest_logit"};

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

Batch on(const torch::Device& device, const Batch& batch) {
  return batch.map([&](const Tensor& x) { return x.to(device); });
}

// Sequences [begin, begin + count) of a batch.
Batch rows(const Batch& batch, int64_t begin, int64_t count) {
  return batch.map([&](const Tensor& x) { return x.narrow(0, begin, count); });
}

int64_t targets_of(const Batch& batch) { return batch.labels.ge(0).sum().item<int64_t>(); }

// A validated copy.
TrainConfig checked(const TrainConfig& config) {
  config.validate();
  return config;
}

}  // namespace

Trainer::Trainer(Decoder model, const TrainConfig& config, BatchSource train, const std::vector<Batch>& validation,
                 RunFolder folder, const std::vector<std::string>& provenance, bool resume, torch::Device device,
                 Parallelism parallelism)
    : model_(std::move(model)),
      config_(checked(config)),
      train_(std::move(train)),
      folder_(std::move(folder)),
      device_(device),
      generator_(at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(config.seed))),
      parallelism_(std::move(parallelism)),
      ranks_(parallelism_.ranks) {
  const std::shared_ptr<RankGroup>& spread = model_->expert_ranks();
  if (spread != nullptr ? spread != parallelism_.experts : !parallelism_.experts->alone()) {
    fail("the model's experts are not spread over the ranks that share experts");
  }
  if (spread != nullptr && model_->expert_parameters().empty()) {
    refuse("--ep {}: there are no experts to share (model.moe.experts = 0)", spread->size());
  }
  const int64_t parts = own_parts() * parallelism_.shares();
  require(config_.batch >= parts, "train.batch", fmt::format("{}", config_.batch),
          fmt::format("must be at least {}, the parts of a step: every rank computes at least one sequence", parts));
  model_->initialise(generator_);
  for (auto& [name, parameter] : own_parameters(*model_)) parameter.set_data(parameter.to(device));
  const torch::ScalarType dtype = config_.step_dtype();
  if (dtype != torch::kFloat) copy_ = std::make_unique<WorkingCopy>(model_, dtype);
  sums_ = std::make_unique<GradientSums>(model_, computing(), parallelism_);
  sums_->drop_weights();
  optimizer_ = make_optimizer(*model_, config, [&](const std::string& name) { return sums_->owns(name); });
  for (const Batch& batch : validation) validation_.push_back(on_this_rank(batch));
  start(resume);
  if (writes()) metrics_ = open_metrics(folder_, provenance, kColumns, resume, status_.step);
}

void Trainer::start(bool resume) {
  computing()->set_activation_checkpointing(config_.activation_checkpointing);
  if (config_.optimizer == "muonclip") clip_ = std::make_unique<QkClip>(model_, computing(), config_.max_logit);
  if (config_.ema > 0) average_ = std::make_unique<WeightAverage>(*model_, config_.ema);
  if (resume && !folder_.path.empty() && std::filesystem::exists(folder_.last())) {
    restore(folder_.last());
  } else if (!config_.from.empty()) {
    branch();
  }
  share_weights();
}

// After a change of the weights that this rank updates: gives them to the computing models of all ranks.
void Trainer::share_weights() {
  if (copy_) copy_->refresh();
  sums_->share_weights();
}

// Begins from a checkpoint of another run: with its parameters, and with train.from_state as if that run went on.
void Trainer::branch() {
  const StartCheckpoint start = load_start(config_.from, *model_, tensors());
  if (average_) average_->restart();
  if (config_.from_state) continue_state(start.checkpoint, start.path);
}

void Trainer::continue_state(const Checkpoint& from, const std::string& path) {
  if (from.fields.contains("averaged")) {
    fail("{}: train.from_state needs the weights themselves, but this best checkpoint has their average; use last",
         path);
  }
  copy_stored(from, path, optimizer_->state());
  // The average begins here if the other run had none.
  if (average_ && from.tensors.contains(average_->state().begin()->first)) copy_stored(from, path, average_->state());
  generator_.set_state(from.tensor("generator"));
  status_.step = from.json_field<int64_t>("step");
  const std::string step = fmt::format("step {} of {}", status_.step, path);
  require(status_.step < config_.steps, "train.steps", fmt::format("{}", config_.steps),
          "must be more than " + step + ", where train.from_state continues");
  const bool decays = config_.schedule == "wsd" && config_.last_stable_step(config_.steps) < status_.step;
  require(!decays, "train.decay_ratio", fmt::format("{}", config_.decay_ratio),
          "must be smaller: the decay would begin before " + step);
}

// What a resumed run needs, by its names in checkpoints; the generator's state is separate.
std::map<std::string, Tensor> Trainer::tensors() const {
  std::map<std::string, Tensor> all = model_tensors(*model_);
  all.merge(optimizer_->state());
  if (average_) all.merge(average_->state());
  return all;
}

Checkpoint Trainer::checkpoint() {
  Checkpoint checkpoint;
  checkpoint.tensors = tensors();
  checkpoint.tensors["generator"] = generator_.get_state();
  store_progress(status_, checkpoint);  // the step is also the position in the data
  checkpoint.fields["train"] = to_object(status_.train).dump();
  return checkpoint;
}

void Trainer::restore(const std::string& path) {
  const std::map<std::string, Tensor> own = tensors();
  const Checkpoint from = load_stored(path, *model_, own);
  copy_stored(from, path, own);
  generator_.set_state(from.tensor("generator"));
  restore_progress(from, status_);
  status_.train = from.json_field<Score>("train");
}

void Trainer::save(const std::string& path, const Checkpoint& checkpoint) {
  if (metrics_) metrics_->sync();
  save_checkpoint(*ranks_, path, checkpoint, parallelism_.shard_checkpoints);
}

void Trainer::save_last() {
  if (!folder_.path.empty()) save(folder_.last(), checkpoint());
}

// The weights that were evaluated: if these are the averages, they are stored as the model's.
void Trainer::save_best() {
  if (folder_.path.empty()) return;
  const AveragedWeights averaged(average_.get());
  Checkpoint best = checkpoint();
  if (average_) {
    std::erase_if(best.tensors, [](const auto& item) { return item.first.starts_with("ema."); });
    best.fields["averaged"] = "true";
  }
  save(folder_.best(), best);
}

void Trainer::check_finite(double value, const char* what, int64_t step) const {
  if (std::isfinite(value)) return;
  const bool kept = !folder_.path.empty() && std::filesystem::exists(folder_.last());
  throw Diverged(fmt::format(
      "the {} became {} at step {}: the run diverged (learning rate {:.2g}). {} Try a smaller train.lr.", what,
      std::isnan(value) ? std::abs(value) : value, step, status_.lr,
      kept ? fmt::format("The last good checkpoint is kept in '{}'.", folder_.last()) : "There is no checkpoint yet."));
}

// The parts into which a share of a batch is cut: all shares together have at least train.accumulate.
int64_t Trainer::own_parts() const { return parallelism_.layout().own_parts(config_.accumulate); }

Batch Trainer::on_this_rank(const Batch& batch) const {
  return on(device_, parallelism_.context->alone() ? batch : part_of(batch, parallelism_.context));
}

// Backward of the mean loss over all targets of the batch, part by part; returns the sum of all ranks' scores.
Score Trainer::accumulate_gradients(const Batch& batch) {
  const int64_t sequences = batch.inputs.size(0), own = own_parts(), parts = own * parallelism_.shares();
  const auto targets = static_cast<double>(targets_of(batch));
  std::vector<Score> scores;
  sums_->begin_step();
  for (int64_t i = 0; i < own; ++i) {
    const int64_t part = parallelism_.share() * own + i;
    const int64_t begin = part * sequences / parts, end = (part + 1) * sequences / parts;
    const bool last = i + 1 == own;
    if (last) sums_->begin_last_part();
    ranks_->guard([&] { scores.push_back(part_gradients(rows(batch, begin, end - begin), targets)); });
    last ? sums_->end_last_part() : sums_->end_part();
  }
  Score sum;
  for (const Score& score : gather_scores(*ranks_, scores)) sum += score;
  check_finite(sum.loss_sum, "loss", status_.step + 1);
  return sum;
}

Score Trainer::part_gradients(const Batch& part, double targets) {
  if (ranks_->alone() && targets_of(part) == 0) {  // no loss, and no answer is wrong
    return {.sequences = part.labels.size(0), .sequences_right = part.labels.size(0)};
  }
  Tensor loss;
  const Score score = score_batch(computing(), on_this_rank(part), &loss);
  (loss * (static_cast<double>(score.targets) / targets)).backward();
  return score;
}

void Trainer::train_step(const Batch& batch) {
  status_.lr = config_.lr_at(status_.step + 1);
  const Score score = accumulate_gradients(batch);
  status_.grad_norm = sums_->clip_norm(config_.max_grad_norm);
  check_finite(status_.grad_norm, "norm of the gradients", status_.step + 1);
  optimizer_->step(status_.lr);
  if (clip_) status_.largest_logit = std::max(status_.largest_logit, clip_->after_step(*ranks_));
  share_weights();
  computing()->after_step(*ranks_);
  if (average_) average_->update();
  status_.train += score;
  ++status_.step;
}

// Batches are dealt out in turn. Ranks that share experts compute at the same time: one that has no batch left computes
// another for the experts' sake.
Score Trainer::score(const std::vector<Batch>& batches) {
  const torch::NoGradGuard no_grad;
  const auto shares = static_cast<size_t>(parallelism_.shares()), own = static_cast<size_t>(parallelism_.share());
  std::vector<Score> scores((batches.size() + shares - 1) / shares);
  for (size_t i = 0; i < scores.size(); ++i) {
    const size_t batch = i * shares + own;
    if (batch < batches.size()) {
      scores[i] = score_batch(model_, batches[batch], nullptr);
    } else if (!parallelism_.experts->alone()) {
      score_batch(model_, batches.back(), nullptr);
    }
  }
  const std::vector<Score> all = gather_scores(*ranks_, scores);
  const auto context = static_cast<size_t>(parallelism_.context->size());
  Score sum;
  for (size_t batch = 0; batch < batches.size(); ++batch) {
    for (size_t i = 0; i < context; ++i) {
      const size_t rank = batch % shares * context + i;
      sum += all[rank * scores.size() + batch / shares];
    }
  }
  return sum;
}

Score Trainer::evaluate() {
  const EvaluatedWeights evaluated = evaluated_weights();
  return score(validation_);
}

TestScores Trainer::test(const std::vector<Batch>& batches) {
  const EvaluatedWeights evaluated = evaluated_weights();
  std::vector<Batch> here;
  for (const Batch& batch : batches) here.push_back(on_this_rank(batch));
  const Score last = score(here);
  TestScores scores{last, last};
  if (status_.best_step != status_.step && !folder_.path.empty()) {
    with_parameters_of(folder_.best(), *model_, [&](const Checkpoint& best) {
      scores.best = score(here);
      write_row(status_.best_step, "test", scores.best, best.json_field<double>("grad_norm"));
    });
  }
  write_row(status_.step, "test", scores.last, status_.grad_norm);
  if (metrics_) metrics_->sync();
  return scores;
}

void Trainer::write_row(int64_t step, const char* split, const Score& score, double grad_norm) {
  if (!metrics_) return;
  metrics_->row({fmt::format("{}", step), split, fmt::format("{:.6f}", score.loss()),
                 fmt::format("{:.6f}", score.acc_tok()), fmt::format("{:.6f}", score.acc_seq()),
                 fmt::format("{:.6g}", config_.lr_at(step)), fmt::format("{:.4g}", grad_norm),
                 fmt::format("{:.0f}", status_.tokens_per_second), fmt::format("{:.4f}", status_.wait_share),
                 fmt::format("{:.2f}", status_.seconds),
                 score.surprisal_sum > 0 ? fmt::format("{:.6f}", score.excess()) : "",
                 score.bytes > 0 ? fmt::format("{:.6f}", score.bits_per_byte()) : "",
                 status_.largest_logit > 0 ? fmt::format("{:.4g}", status_.largest_logit) : ""});
}

void Trainer::write_rows() {
  write_row(status_.step, "train", status_.train, status_.grad_norm);
  write_row(status_.step, "validation", status_.validation, status_.grad_norm);
}

// A signal or stop of one rank holds for all.
std::pair<int, bool> Trainer::agreed(int signal, bool stop) {
  if (ranks_->alone()) return {signal, stop};
  const Tensor all = ranks_->largest(torch::tensor({signal, static_cast<int>(stop)}, torch::kInt));
  return {all[0].item<int>(), all[1].item<int>() != 0};
}

Outcome Trainer::run(const std::function<Next(const TrainStatus&, bool)>& watch) {
  if (succeeded()) return Outcome::success;
  if (stalled()) return Outcome::stalled;
  BatchStream stream(train_, status_.step);
  const double seconds_before = status_.seconds;
  const Clock::time_point begin = Clock::now();
  double evaluating = 0;
  int64_t tokens = 0;
  while (status_.step < config_.steps) {
    const Batch batch = stream.next();
    train_step(batch);
    tokens += batch.inputs.numel();
    const double elapsed = seconds_since(begin);
    status_.seconds = seconds_before + elapsed;
    status_.tokens_per_second = static_cast<double>(tokens) / std::max(elapsed - evaluating, 1e-9);
    status_.wait_share = stream.waited() / std::max(elapsed - evaluating, 1e-9);

    const bool last = status_.step == config_.steps;
    const bool evaluated = last || status_.step % config_.eval_every == 0;
    Next next{};
    if (evaluated) {
      const Clock::time_point evaluation = Clock::now();
      status_.validation = evaluate();
      check_finite(status_.validation.loss_sum, "validation loss", status_.step);
      evaluating += seconds_since(evaluation);
      write_rows();
      next = watch(status_, true);
      status_.train = {};
      status_.largest_logit = 0;
      if (status_.keep_if_best()) save_best();
    } else {
      next = watch(status_, false);
    }
    if (evaluated && (succeeded() || stalled())) {
      save_last();
      return succeeded() ? Outcome::success : Outcome::stalled;
    }
    const auto [signal, stop] = agreed(interrupt_requested(), next == Next::stop && !last);
    if (last || stop || signal != 0 || status_.step % config_.checkpoint_every == 0) save_last();
    if (stop) return Outcome::stopped;
    if (signal != 0) throw Interrupted(signal, fmt::format("interrupted after step {}", status_.step));
  }
  return Outcome::steps_done;
}

}  // namespace klab
