// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/run.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/random.h"
#include "core/base/yaml.h"
#include "core/io/checkpoint.h"
#include "core/model/accounting.h"
#include "experiments/run/device.h"
#include "experiments/run/evaluations.h"
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

namespace {

// The batches of the task, or of its mixture.
BatchSource mixture_source(const RunConfig& config) {
  std::vector<BatchSource> sources{batch_source(config.task, config.train.seed, config.train.batch, Split::train)};
  std::vector<int64_t> until{1};  // cumulative weights
  for (const TaskVariant& variant : config.trained_variants()) {
    sources.push_back(batch_source(variant.task, config.train.seed, config.train.batch, Split::train));
    until.push_back(until.back() + variant.weight);
  }
  if (sources.size() == 1) return sources.front();
  return [sources, until, seed = config.train.seed](int64_t index) {
    Random random{static_cast<uint64_t>(seed), static_cast<uint64_t>(index), kMixtureStream};
    const auto draw = static_cast<int64_t>(random.below(static_cast<uint64_t>(until.back())));
    const auto chosen = std::upper_bound(until.begin(), until.end(), draw) - until.begin();
    return sources[static_cast<size_t>(chosen)](index);
  };
}

}  // namespace

Decoder make_model(const RunConfig& config) { return Decoder(config.model, config.vocabulary()); }

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
    sources.push_back(batch_source(phase.task, config.train.seed, phase.batch, Split::train));
    until.push_back((until.empty() ? 0 : until.back()) + phase.steps);
  }
  sources.push_back(mixture_source(config));
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
                     bool resume, const torch::Device& device) {
  TrainConfig train = config.train;
  int64_t until = 0;
  for (const Phase& phase : config.phases()) train.phase_peaks.emplace_back(until += phase.steps, phase.lr);
  return Trainer(make_model(config), train, training_source(config), held_out(config, Split::validation), folder,
                 provenance, resume, device);
}

namespace {

constexpr std::chrono::milliseconds kRecordEvery{500};

void train_and_evaluate(const RunFolder& folder, const RunOptions& options, const WatchRun& watch, RunRecord& record) {
  using Clock = std::chrono::steady_clock;
  const RunConfig config = read_run_config(folder);
  const torch::Device device = open_device(options.device);
  if (!options.memory_checked) require_memory(config, device);
  Trainer trainer = make_trainer(config, folder, options.provenance, options.resume, device);
  const Accounting cost = account(trainer.model(), config.task.length);
  record.parameters = cost.parameters;
  record.state_bytes = cost.state_bytes;
  record.set(trainer.status());
  watch(record, nullptr, false);
  if (record.state != RunState::running) return;
  write_record(folder, record);
  Clock::time_point written = Clock::now();
  trainer.run([&](const TrainStatus& status, bool evaluated) {
    record.set(status);
    watch(record, &status, evaluated);
    if (record.state != RunState::running) return Next::stop;
    if (Clock::now() - written >= kRecordEvery) {
      write_record(folder, record);
      written = Clock::now();
    }
    return Next::step;
  });
  record.set(trainer.status());
  if (record.state != RunState::running) return;
  record.set(trainer.test(held_out(config, Split::test)));
  const AveragedWeights averaged = trainer.averaged();
  write_evaluations(config, trainer, folder, options.provenance);
  record.state = RunState::finished;
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
    write_record(folder, record);
    throw;
  } catch (const Diverged& error) {
    ends(RunState::diverged, error.what());
  } catch (const c10::Error& error) {
    ends(RunState::failed, error.what_without_backtrace());
  } catch (const std::exception& error) {
    ends(RunState::failed, error.what());
  }
  try {
    write_record(folder, record);
  } catch (const std::exception& error) {
    fail("{}", record.reason.empty() ? error.what()
                                     : record.reason);  // report the run's own error first: the disk may be full
  }
  return record;
}

}  // namespace klab
