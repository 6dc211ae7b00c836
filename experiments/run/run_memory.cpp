// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/run_memory.h"

#include <ATen/DeviceAccelerator.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "core/base/memory.h"
#include "core/base/text.h"
#include "core/model/block_cache.h"
#include "core/train/layer_memory.h"

namespace klab {
namespace {

double device_memory(const torch::Device& device) {
  if (device.is_cpu()) return static_cast<double>(machine_memory());
  return static_cast<double>(at::accelerator::getMemoryInfo(device.has_index() ? device.index() : 0).second);
}

struct ParameterCounts {
  double all = 0, largest_layer = 0;
};

// Without building the model: a config with too many layers must be refused quickly.
ParameterCounts count_parameters(const RunConfig& config) {
  const ParameterPlace nowhere(torch::kMeta, torch::kFloat);
  std::map<LayerKind, double> sizes;
  ParameterCounts counts{2.0 * static_cast<double>(config.vocabulary()) * static_cast<double>(config.model.width)};
  const std::vector<std::string> items = config.model.layer_mixers();
  for (int64_t layer = 0; layer < config.model.layers; ++layer) {
    const std::string& item = items[static_cast<size_t>(layer)];
    const LayerKind kind = kind_of(config.model, item, layer);
    if (!sizes.contains(kind)) {
      sizes[kind] = static_cast<double>(parameter_count(*config.model.make_mixer(item)) +
                                        parameter_count(*config.model.make_feed_forward(layer)));
    }
    counts.all += sizes[kind];
    counts.largest_layer = std::max(counts.largest_layer, sizes[kind]);
  }
  return counts;
}

int64_t bytes_of_row(const Example& row) {
  const size_t numbers = row.inputs.size() + row.labels.size() + row.difficulty.size() + row.starts.size() +
                         row.bytes.size() + row.surprisal.size();
  return static_cast<int64_t>(8 * numbers);
}

// The answers of a minibatch of reinforcement learning, if all reach rl.max_new_tokens.
void add_answers(const RunConfig& config, std::vector<std::pair<StepShape, int64_t>>& shapes) {
  const RlConfig& rl = *config.rl;
  const Example row = config.task.make()->example(config.train.seed, Split::train, 0);
  const int64_t minibatch = (rl.answers() - 1) / rl.minibatches + 1,
                part = (minibatch - 1) / config.train.accumulate + 1;
  shapes.push_back({{part, row.size() + rl.max_new_tokens, rl.max_new_tokens}, bytes_of_row(row)});
}

// The different shapes of a run's steps, and the bytes of a row of data of each.
std::vector<std::pair<StepShape, int64_t>> shapes_of(const RunConfig& config) {
  std::vector<std::pair<StepShape, int64_t>> shapes;
  const auto add = [&](const TaskConfig& task, int64_t batch) {
    const Example row = task.make()->example(config.train.seed, Split::train, 0);
    const auto targets = std::count_if(row.labels.begin(), row.labels.end(), [](int64_t label) { return label >= 0; });
    shapes.push_back({{batch / config.train.accumulate, row.size(), targets}, bytes_of_row(row)});
  };
  const auto add_all = [&](const std::vector<TaskVariant>& tasks, int64_t batch) {
    for (const TaskVariant& variant : tasks) add(variant.task, batch);
  };
  for (const Phase& phase : config.phases()) add_all(phase.tasks, phase.batch);
  add_all(config.trained_tasks(), config.train.batch);
  if (config.rl) add_answers(config, shapes);
  return shapes;
}

}  // namespace

RunMemory predict_memory(const RunConfig& config) {
  const double layer = 4 * count_parameters(config).largest_layer, memory = static_cast<double>(machine_memory());
  // Parameters, their gradients and temporary copies.
  require(3 * layer <= memory, "model.width", fmt::format("{}", config.model.width),
          fmt::format("must be smaller: a layer of {}B cannot be measured in {}B of memory", short_count(layer),
                      short_count(memory)));
  constexpr int64_t kBatchesAhead = 6;
  RunMemory largest;
  for (const auto& [shape, row] : shapes_of(config)) {
    const StepMemory step = predict_step_memory(config.model, config.vocabulary(), config.train, shape);
    if (step.peak > largest.step.peak) {
      largest.shape = shape;
      largest.step = step;
    }
    const int64_t rows = 2 * config.train.eval_examples + kBatchesAhead * shape.sequences * config.train.accumulate;
    largest.data = std::max(largest.data, rows * row);
  }
  // Training uses more code of the libraries than prediction: 20 MB, measured for models of several sizes.
  constexpr int64_t kMoreProgram = 20'000'000;
  largest.program = resident_memory() + kMoreProgram;
  largest.cache = static_cast<int64_t>(kBlockCacheShare * static_cast<double>(largest.step.peak));
  return largest;
}

void require_memory(const RunConfig& config, const torch::Device& device) {
  const double parameters = count_parameters(config).all, memory = device_memory(device);
  const auto refuse_if_larger = [&](double bytes, const std::string& what) {
    if (bytes <= memory) return;
    refuse("{} need {}B, but the {} has {}B of memory", what, short_count(bytes),
           device.is_cpu() ? "machine" : "device", short_count(memory));
  };
  const std::string model = fmt::format("model.width = {}, model.layers = {}: {} parameters", config.model.width,
                                        config.model.layers, short_count(parameters));
  // Muon's state has one number per parameter, AdamW's two.
  const double numbers = config.train.optimizer == "adamw" ? 4 : 3;
  refuse_if_larger(numbers * 4 * parameters, model + " with gradients and the optimiser's state");
  const RunMemory run = predict_memory(config);
  refuse_if_larger(static_cast<double>(device.is_cpu() ? run.peak() : run.step.peak),
                   fmt::format("{}, training steps of {} x {} tokens ({}train.batch, train.accumulate, "
                               "train.activation_checkpointing and train.dtype change this)",
                               model, run.shape.sequences, run.shape.length,
                               config.rl ? "rl.prompts, rl.samples, rl.minibatches, rl.max_new_tokens, " : ""));
}

}  // namespace klab
