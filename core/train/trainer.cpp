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

namespace klab {
namespace {

using torch::Tensor;
using Clock = std::chrono::steady_clock;

const std::vector<std::string> kColumns = {
    "step", "split", "loss", "acc_tok", "acc_seq", "lr", "grad_norm", "tokens_per_second", "wait_share", "seconds"};

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

template <class T>
std::string to_json(const T& value) {
  return nlohmann::ordered_json(value).dump();
}

Batch on(const torch::Device& device, const Batch& batch) {
  return {batch.inputs.to(device), batch.labels.to(device), batch.difficulty};
}

}  // namespace

Trainer::Trainer(Decoder model, const TrainConfig& config, BatchSource train, const std::vector<Batch>& validation,
                 RunFolder folder, const std::vector<std::string>& provenance, bool resume, torch::Device device)
    : model_(std::move(model)),
      config_(config),
      train_(std::move(train)),
      folder_(std::move(folder)),
      device_(device),
      generator_(at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(config.seed))),
      adamw_((model_->initialise(generator_), model_->to(device), *model_), config.adamw) {
  for (const Batch& batch : validation) validation_.push_back(on(device_, batch));
  if (folder_.path.empty()) return;
  if (resume && std::filesystem::exists(folder_.last())) restore(load_checkpoint(folder_.last()));
  open_metrics(provenance, resume);
}

void Trainer::open_metrics(const std::vector<std::string>& provenance, bool resume) {
  make_writable_folder(folder_.path + "/checkpoint");
  CsvTable table{provenance, kColumns, {}};
  if (resume && std::filesystem::exists(folder_.metrics())) {
    // A power failure can leave an incomplete last row; rows after the checkpoint belong to steps that will be
    // repeated, and so will the test.
    const std::string content = read_file(folder_.metrics());
    if (!content.ends_with('\n')) write_file(folder_.metrics(), content.substr(0, content.rfind('\n') + 1));
    table = read_csv(folder_.metrics());
    const size_t step = table.column("step"), split = table.column("split");
    std::erase_if(table.rows,
                  [&](const auto& row) { return std::stoll(row[step]) > status_.step || row[split] == "test"; });
  }
  metrics_ = std::make_unique<CsvWriter>(folder_.metrics(), table);
}

Checkpoint Trainer::checkpoint() const {
  Checkpoint checkpoint;
  for (const auto& item : model_->named_parameters()) checkpoint.tensors["model." + item.key()] = item.value();
  for (const auto& [name, tensor] : adamw_.state()) checkpoint.tensors["adamw." + name] = tensor;
  checkpoint.tensors["generator"] = generator_.get_state();
  checkpoint.fields = {{"step", to_json(status_.step)},  // also the position in the data
                       {"seconds", to_json(status_.seconds)},
                       {"threads", to_json(at::get_num_threads())},
                       {"train", to_object(status_.train).dump()},
                       {"validation", to_object(status_.validation).dump()},
                       {"best", to_object(status_.best).dump()},
                       {"best_step", to_json(status_.best_step)},
                       {"grad_norm", to_json(status_.grad_norm)}};
  return checkpoint;
}

void Trainer::restore(const Checkpoint& from) {
  const torch::NoGradGuard no_grad;
  std::map<std::string, Tensor> wanted;
  for (const auto& item : model_->named_parameters()) wanted["model." + item.key()] = item.value();
  for (const auto& [name, tensor] : adamw_.state()) wanted["adamw." + name] = tensor;
  for (const auto& [name, tensor] : wanted) {  // check everything before changing anything
    const Tensor& stored = from.tensor(name);
    if (stored.sizes() != tensor.sizes() || stored.scalar_type() != tensor.scalar_type()) {
      fail("the checkpoint's tensor '{}' has another shape or dtype than the model of config.yaml", name);
    }
  }
  if (from.tensors.size() != wanted.size() + 1)
    fail("the checkpoint has tensors that the model of config.yaml does not have");
  for (auto& [name, tensor] : wanted) tensor.copy_(from.tensor(name));
  generator_.set_state(from.tensor("generator"));
  status_.step = from.json_field<int64_t>("step");
  status_.seconds = from.json_field<double>("seconds");
  status_.train = from.json_field<Score>("train");
  status_.validation = from.json_field<Score>("validation");
  status_.best = from.json_field<Score>("best");
  status_.best_step = from.json_field<int64_t>("best_step");
  status_.grad_norm = from.json_field<double>("grad_norm");
}

void Trainer::save(const std::string& path) const {
  if (folder_.path.empty()) return;
  if (metrics_) metrics_->sync();
  save_checkpoint(path, checkpoint());
}

void Trainer::check_finite(double value, const char* what, int64_t step) const {
  if (std::isfinite(value)) return;
  const bool kept = !folder_.path.empty() && std::filesystem::exists(folder_.last());
  throw Diverged(fmt::format(
      "the {} became {} at step {}: the run diverged (learning rate {:.2g}). {} Try a smaller train.lr.", what, value,
      step, status_.lr,
      kept ? fmt::format("The last good checkpoint is kept in '{}'.", folder_.last()) : "There is no checkpoint yet."));
}

void Trainer::train_step(const Batch& batch) {
  status_.lr = config_.lr_at(status_.step + 1);
  adamw_.zero_grad();
  Tensor loss;
  const Score score = score_batch(model_, on(device_, batch), &loss);
  check_finite(score.loss_sum, "loss", status_.step + 1);
  loss.backward();
  status_.grad_norm = adamw_.clip_grad_norm(config_.max_grad_norm);
  check_finite(status_.grad_norm, "norm of the gradients", status_.step + 1);
  adamw_.step(status_.lr);
  model_->after_step();
  status_.train += score;
  ++status_.step;
}

Score Trainer::score(const std::vector<Batch>& batches) {
  const torch::NoGradGuard no_grad;
  Score sum;
  for (const Batch& batch : batches) sum += score_batch(model_, batch, nullptr);
  return sum;
}

Score Trainer::evaluate() { return score(validation_); }

TestScores Trainer::test(const std::vector<Batch>& batches) {
  std::vector<Batch> here;
  for (const Batch& batch : batches) here.push_back(on(device_, batch));
  const Score last = score(here);
  TestScores scores{last, last};
  if (status_.best_step != status_.step && !folder_.path.empty()) {
    Checkpoint kept;  // of the model alone
    for (const auto& item : model_->named_parameters()) {
      kept.tensors["model." + item.key()] = item.value().detach().clone();
    }
    const Checkpoint best = load_checkpoint(folder_.best());
    load_model(best);
    scores.best = score(here);
    load_model(kept);
    write_row(status_.best_step, "test", scores.best, best.json_field<double>("grad_norm"));
  }
  write_row(status_.step, "test", scores.last, status_.grad_norm);
  if (metrics_) metrics_->sync();
  return scores;
}

void Trainer::load_model(const Checkpoint& from) {
  const torch::NoGradGuard no_grad;
  for (const auto& item : model_->named_parameters()) Tensor(item.value()).copy_(from.tensor("model." + item.key()));
}

void Trainer::write_row(int64_t step, const char* split, const Score& score, double grad_norm) {
  if (!metrics_) return;
  metrics_->row({fmt::format("{}", step), split, fmt::format("{:.6f}", score.loss()),
                 fmt::format("{:.6f}", score.acc_tok()), fmt::format("{:.6f}", score.acc_seq()),
                 fmt::format("{:.6g}", config_.lr_at(step)), fmt::format("{:.4g}", grad_norm),
                 fmt::format("{:.0f}", status_.tokens_per_second), fmt::format("{:.4f}", status_.wait_share),
                 fmt::format("{:.2f}", status_.seconds)});
}

void Trainer::write_rows() {
  write_row(status_.step, "train", status_.train, status_.grad_norm);
  write_row(status_.step, "validation", status_.validation, status_.grad_norm);
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
      if (status_.best.targets == 0 || better(status_.validation.metrics(), status_.best.metrics())) {
        status_.best = status_.validation;
        status_.best_step = status_.step;
        save(folder_.best());
      }
    } else {
      next = watch(status_, false);
    }
    if (evaluated && (succeeded() || stalled())) {
      save(folder_.last());
      return succeeded() ? Outcome::success : Outcome::stalled;
    }
    const int signal = interrupt_requested();
    const bool stop = next == Next::stop && !last;
    if (last || stop || signal != 0 || status_.step % config_.checkpoint_every == 0) save(folder_.last());
    if (stop) return Outcome::stopped;
    if (signal != 0) throw Interrupted(signal, fmt::format("interrupted after step {}", status_.step));
  }
  return Outcome::steps_done;
}

}  // namespace klab
