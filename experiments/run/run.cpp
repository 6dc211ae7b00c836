// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/run.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/random.h"
#include "core/base/yaml.h"
#include "core/io/checkpoint.h"
#include "core/model/accounting.h"
#include "experiments/run/device.h"
#include "experiments/run/evaluations.h"
#include "experiments/run/rl_run.h"
#include "experiments/run/run_memory.h"

namespace klab {
namespace {

constexpr uint64_t kMixtureStream = 0x6d6978;  // separates this random stream from those of the examples

Batch as_batch(const ExampleBatch& examples) {
  const Example& rows = examples.rows;
  const auto tensor = [&](const auto& numbers, torch::ScalarType type) {
    return numbers.empty() ? torch::Tensor() : torch::tensor(numbers, type).view({examples.count, examples.length});
  };
  return {tensor(rows.inputs, torch::kLong), tensor(rows.labels, torch::kLong), tensor(rows.difficulty, torch::kLong),
          tensor(rows.starts, torch::kLong), tensor(rows.bytes, torch::kLong),  tensor(rows.surprisal, torch::kDouble)};
}

}  // namespace

RunConfig read_run_config(const RunFolder& folder) {
  if (!std::filesystem::exists(folder.config())) {
    refuse("'{}' is not a run folder: it has no config.yaml", folder.path);
  }
  return make_run_config(read_yaml(folder.config()));
}

Lock lock_run(const RunFolder& folder) {
  std::optional<Lock> lock = Lock::take(folder.lock());
  if (!lock) refuse("the run in '{}' is being trained by {}", folder.path, Lock::holder(folder.lock()));
  return std::move(*lock);
}

BatchSource batch_source(const TaskConfig& config, int64_t seed, int64_t count, Split split) {
  const std::shared_ptr<const Task> task = config.make();
  return [task, split, seed, count](int64_t index) {
    return as_batch(example_batch(*task, seed, split, index * count, count));
  };
}

std::vector<Batch> held_out_batches(const TaskConfig& config, int64_t seed, int64_t examples, int64_t count,
                                    Split split) {
  const std::shared_ptr<const Task> task = config.make();
  examples = std::min(examples, task->examples(split).value_or(examples));
  std::vector<Batch> batches;
  for (int64_t first = 0; first < examples; first += count) {
    batches.push_back(as_batch(example_batch(*task, seed, split, first, std::min(count, examples - first))));
  }
  return batches;
}

MixtureDraw::MixtureDraw(const std::vector<TaskVariant>& tasks, int64_t seed) : seed_(seed) {
  for (const TaskVariant& variant : tasks) until_.push_back((until_.empty() ? 0 : until_.back()) + variant.weight);
}

size_t MixtureDraw::operator()(int64_t index) const {
  Random random{static_cast<uint64_t>(seed_), static_cast<uint64_t>(index), kMixtureStream};
  const auto draw = static_cast<int64_t>(random.below(static_cast<uint64_t>(until_.back())));
  return static_cast<size_t>(std::upper_bound(until_.begin(), until_.end(), draw) - until_.begin());
}

BatchSource mixture_source(const std::vector<TaskVariant>& tasks, int64_t seed, int64_t count) {
  std::vector<BatchSource> sources;
  for (const TaskVariant& variant : tasks) sources.push_back(batch_source(variant.task, seed, count, Split::train));
  if (sources.size() == 1) return sources.front();
  return [sources, draw = MixtureDraw(tasks, seed)](int64_t index) { return sources[draw(index)](index); };
}

Decoder make_model(const RunConfig& config, const std::shared_ptr<RankGroup>& expert_ranks) {
  return Decoder(config.model, config.vocabulary(), expert_ranks);
}

int64_t load_parameters(const std::string& path, const Decoder& model) {
  const torch::NoGradGuard no_grad;
  const Checkpoint checkpoint = load_checkpoint(path, "model.");
  const auto parameters = model->named_parameters();
  for (const auto& item : parameters) {
    const auto stored = checkpoint.tensors.find("model." + item.key());
    if (stored == checkpoint.tensors.end()) {
      fail("{}: there is no tensor 'model.{}': the checkpoint does not match the model of config.yaml", path,
           item.key());
    }
    if (stored->second.sizes() != item.value().sizes()) {
      fail("{}: tensor 'model.{}' has another shape than the model of config.yaml", path, item.key());
    }
  }
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (name.rfind("model.", 0) == 0 && !parameters.contains(name.substr(6))) {
      fail("{}: tensor '{}' does not belong to the model of config.yaml (another number of layers, or another mixer?)",
           path, name);
    }
  }
  for (const auto& item : parameters) torch::Tensor(item.value()).copy_(checkpoint.tensor("model." + item.key()));
  return checkpoint.json_field<int64_t>("step");
}

BatchSource training_source(const RunConfig& config) {
  std::vector<BatchSource> sources;
  std::vector<int64_t> until;  // the first step after each phase
  for (const Phase& phase : config.phases()) {
    sources.push_back(mixture_source(phase.tasks, config.train.seed, phase.batch));
    until.push_back((until.empty() ? 0 : until.back()) + phase.steps);
  }
  sources.push_back(mixture_source(config.trained_tasks(), config.train.seed, config.train.batch));
  if (sources.size() == 1) return sources.front();
  return [sources, until](int64_t index) {
    const auto phase = std::upper_bound(until.begin(), until.end(), index) - until.begin();
    return sources[static_cast<size_t>(phase)](index);
  };
}

namespace {

std::vector<Batch> held_out(const RunConfig& config, Split split) {
  return held_out_batches(config.task, config.train.seed, config.train.eval_examples, config.train.batch, split);
}

}  // namespace

Trainer make_trainer(const RunConfig& config, const RunFolder& folder, const std::vector<std::string>& provenance,
                     bool resume, const torch::Device& device, const Parallelism& parallelism) {
  TrainConfig train = config.train;
  int64_t until = 0;
  for (const Phase& phase : config.phases()) train.phase_peaks.emplace_back(until += phase.steps, phase.lr);
  return Trainer(make_model(config, parallelism.experts), train, training_source(config),
                 held_out(config, Split::validation), folder, provenance, resume, device, parallelism);
}

namespace {

// Keeps record.json up to date while a run goes on.
class Recorder {
 public:
  Recorder(const RunFolder& folder, const WatchRun& watch, RunRecord& record, bool writes)
      : folder_(folder), watch_(watch), record_(record), writes_(writes) {}

  // Before the first step. Returns whether the run goes on.
  bool begin(const TrainStatus& status, const Accounting& cost) {
    record_.parameters = cost.parameters;
    record_.state_bytes = cost.state_bytes;
    record_.set(status);
    watch_(record_, nullptr, false);
    if (record_.state == RunState::running) write();
    return record_.state == RunState::running;
  }

  Next after_step(const TrainStatus& status, bool evaluated) {
    record_.set(status);
    watch_(record_, &status, evaluated);
    if (record_.state != RunState::running) return Next::stop;
    if (Clock::now() - written_ >= kRecordEvery) write();
    return Next::step;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kRecordEvery{500};

  void write() {
    if (writes_) write_record(folder_, record_);
    written_ = Clock::now();
  }

  const RunFolder& folder_;
  const WatchRun& watch_;
  RunRecord& record_;
  bool writes_;
  Clock::time_point written_;
};

void train_supervised(const RunConfig& config, const RunFolder& folder, const RunOptions& options, Recorder& recorder,
                      RunRecord& record, const torch::Device& device) {
  Trainer trainer = make_trainer(config, folder, options.provenance, options.resume, device, options.parallelism);
  if (!recorder.begin(trainer.status(), account(trainer.model(), config.task.length))) return;
  trainer.run([&](const TrainStatus& status, bool evaluated) { return recorder.after_step(status, evaluated); });
  record.set(trainer.status());
  if (record.state != RunState::running) return;
  record.set(trainer.test(held_out(config, Split::test)));
  const EvaluatedWeights evaluated = trainer.evaluated_weights();
  const bool first = options.parallelism.ranks->first();
  if (first || !options.parallelism.experts->alone()) {  // ranks that share experts compute together
    write_evaluations(config, trainer.model(), device, first ? folder : RunFolder{}, options.provenance);
  }
  record.state = RunState::finished;
}

void reinforce(const RunConfig& config, const RunFolder& folder, const RunOptions& options, Recorder& recorder,
               RunRecord& record, const torch::Device& device) {
  RlTrainer trainer = make_rl_trainer(config, folder, options.provenance, options.resume, device);
  if (!recorder.begin(trainer.status().train, account(trainer.model(), config.task.length))) return;
  trainer.run([&](const RlStatus& status, bool evaluated) {
    if (options.watch_rl) options.watch_rl(status, evaluated);
    return recorder.after_step(status.train, evaluated);
  });
  record.set(trainer.status().train);
  if (record.state != RunState::running) return;
  record.set(trainer.test(held_out_prompts(config, config.train.eval_examples, Split::test)));
  write_evaluations(config, trainer.model(), device, folder, options.provenance);
  record.state = RunState::finished;
}

void train_and_evaluate(const RunFolder& folder, const RunOptions& options, const WatchRun& watch, RunRecord& record) {
  const RunConfig config = read_run_config(folder);
  const torch::Device device = open_device(options.device);
  if (!options.memory_checked) require_memory(config, device, options.parallelism.layout());
  Recorder recorder(folder, watch, record, options.parallelism.ranks->first());
  (config.rl ? reinforce : train_supervised)(config, folder, options, recorder, record, device);
}

}  // namespace

RunRecord train_run(const RunFolder& folder, const RunOptions& options, const WatchRun& watch) {
  RunRecord record;
  record.state = RunState::running;
  record.provenance = options.provenance;
  const auto ends = [&](RunState state, const std::string& reason) {
    record.state = state;
    record.reason = reason;
  };
  try {
    train_and_evaluate(folder, options, watch, record);
  } catch (const Interrupted&) {
    if (options.parallelism.ranks->first()) write_record(folder, record);
    throw;
  } catch (const Diverged& error) {
    ends(RunState::diverged, error.what());
  } catch (const c10::Error& error) {
    ends(RunState::failed, error.what_without_backtrace());
  } catch (const std::exception& error) {
    ends(RunState::failed, error.what());
  }
  if (!options.parallelism.ranks->first()) return record;
  try {
    write_record(folder, record);
  } catch (const std::exception& error) {
    fail("{}", record.reason.empty() ? error.what()
                                     : record.reason);  // report the run's own error first: the disk may be full
  }
  return record;
}

}  // namespace klab
