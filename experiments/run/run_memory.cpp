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
  double all = 0, experts = 0, largest_layer = 0;
};

// Without building the model: a config with too many layers must be refused quickly.
ParameterCounts count_parameters(const RunConfig& config) {
  const ParameterPlace nowhere(torch::kMeta, torch::kFloat);
  struct Size {
    double all, experts;
  };
  std::map<LayerKind, Size> sizes;
  ParameterCounts counts{2.0 * static_cast<double>(config.vocabulary()) * static_cast<double>(config.model.width)};
  const std::vector<std::string> items = config.model.layer_mixers();
  for (int64_t layer = 0; layer < config.model.layers; ++layer) {
    const std::string& item = items[static_cast<size_t>(layer)];
    const LayerKind kind = kind_of(config.model, item, layer);
    if (!sizes.contains(kind)) {
      const auto feed_forward = config.model.make_feed_forward(layer);
      Size& size = sizes[kind];
      size.all = static_cast<double>(parameter_count(*config.model.make_mixer(item)) + parameter_count(*feed_forward));
      const auto parameters = feed_forward->named_parameters();
      for (const std::string& name : feed_forward->expert_parameters()) {
        size.experts += static_cast<double>(parameters[name].numel());
      }
    }
    counts.all += sizes[kind].all;
    counts.experts += sizes[kind].experts;
    counts.largest_layer = std::max(counts.largest_layer, sizes[kind].all);
  }
  return counts;
}

int64_t bytes_of_row(const Example& row) {
  const size_t numbers = row.inputs.size() + row.labels.size() + row.difficulty.size() + row.starts.size() +
                         row.bytes.size() + row.surprisal.size();
  return static_cast<int64_t>(8 * numbers);
}

// What a rank computes at once in a kind of steps, and its data.
struct StepData {
  StepShape shape;
  int64_t bytes_of_row, batch;
};

// The answers of a minibatch of reinforcement learning, if all reach rl.max_new_tokens.
void add_answers(const RunConfig& config, std::vector<StepData>& shapes) {
  const RlConfig& rl = *config.rl;
  const Example row = config.task.make()->example(config.train.seed, Split::train, 0);
  const int64_t minibatch = (rl.answers() - 1) / rl.minibatches + 1,
                part = (minibatch - 1) / config.train.accumulate + 1;
  shapes.push_back({{part, row.size() + rl.max_new_tokens, rl.max_new_tokens}, bytes_of_row(row), minibatch});
}

// The different shapes of a run's steps.
std::vector<StepData> shapes_of(const RunConfig& config, const RankLayout& layout) {
  std::vector<StepData> shapes;
  const auto add = [&](const TaskConfig& task, int64_t batch) {
    const Example row = task.make()->example(config.train.seed, Split::train, 0);
    const auto targets = std::count_if(row.labels.begin(), row.labels.end(), [](int64_t label) { return label >= 0; });
    const int64_t parts = layout.own_parts(config.train.accumulate) * layout.shares();
    // Ranks that share sequences have the same number of their tokens: whole sequences if there are enough.
    const int64_t sequences = std::max<int64_t>(1, batch / parts), own = (sequences - 1) / layout.context + 1,
                  cuts = std::max<int64_t>(1, layout.context * own / sequences);
    shapes.push_back({{own, (row.size() - 1) / cuts + 1, (targets - 1) / cuts + 1}, bytes_of_row(row), batch});
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

RunMemory predict_memory(const RunConfig& config, const RankLayout& layout) {
  const double layer = 4 * count_parameters(config).largest_layer, memory = static_cast<double>(machine_memory());
  // Parameters, their gradients and temporary copies.
  require(3 * layer <= memory, "model.width", fmt::format("{}", config.model.width),
          fmt::format("must be smaller: a layer of {}B cannot be measured in {}B of memory", short_count(layer),
                      short_count(memory)));
  constexpr int64_t kBatchesAhead = 6;
  RunMemory largest;
  for (const auto& [shape, row, batch] : shapes_of(config, layout)) {
    const StepMemory step = predict_step_memory(config.model, config.vocabulary(), config.train, shape, layout);
    if (step.peak > largest.step.peak) {
      largest.shape = shape;
      largest.step = step;
    }
    const int64_t rows = 2 * config.train.eval_examples + kBatchesAhead * batch;
    largest.data = std::max(largest.data, rows * row);
  }
  // Training uses more code of the libraries than prediction: 20 MB, measured for models of several sizes.
  constexpr int64_t kMoreProgram = 20'000'000;
  largest.program = resident_memory() + kMoreProgram;
  largest.cache = static_cast<int64_t>(kBlockCacheShare * static_cast<double>(largest.step.peak));
  return largest;
}

void require_memory(const RunConfig& config, const torch::Device& device, const RankLayout& layout, int64_t here) {
  const ParameterCounts counts = count_parameters(config);
  const double parameters = counts.all,
               memory = device_memory(device) / static_cast<double>(device.is_cpu() ? here : 1),
               own = counts.all - counts.experts * (1 - 1.0 / static_cast<double>(layout.experts));
  const auto refuse_if_larger = [&](double bytes, const std::string& what) {
    if (bytes <= memory) return;
    refuse("{} need {}B{}, but the {} has {}B of memory{}", what, short_count(bytes),
           layout.ranks > 1 ? " per rank" : "", device.is_cpu() ? "machine" : "device", short_count(memory),
           device.is_cpu() && here > 1 ? fmt::format(" for each of its {} ranks", here) : "");
  };
  const std::string model = fmt::format("model.width = {}, model.layers = {}: {} parameters", config.model.width,
                                        config.model.layers, short_count(parameters));
  // Muon's state has one number per parameter, AdamW's two.
  const double state = config.train.optimizer == "adamw" ? 2 : 1;
  const double numbers = 2 * own + state * (layout.zero ? parameters / static_cast<double>(layout.ranks) : own);
  refuse_if_larger(4 * numbers, model + " with gradients and the optimiser's state");
  const RunMemory run = predict_memory(config, layout);
  refuse_if_larger(static_cast<double>(device.is_cpu() ? run.peak() : run.step.peak),
                   fmt::format("{}, training steps of {} x {} tokens ({}train.batch, train.accumulate, "
                               "train.activation_checkpointing and train.dtype change this)",
                               model, run.shape.sequences, run.shape.length,
                               config.rl ? "rl.prompts, rl.samples, rl.minibatches, rl.max_new_tokens, " : ""));
}

}  // namespace klab
