#include "experiments/run/run.h"

#include <torch/nn/module.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/io/checkpoint.h"

namespace klab {
namespace {

constexpr uint64_t kMixtureStream = 0x6d6978;  // apart from the streams of examples

}  // namespace

namespace {

Batch as_batch(const ExampleBatch& examples) {
  const auto tensor = [&](const std::vector<int64_t>& ids) {
    return torch::tensor(ids, torch::kLong).view({examples.count, examples.length});
  };
  return {tensor(examples.inputs), tensor(examples.labels), tensor(examples.difficulty)};
}

}  // namespace

BatchSource batch_source(const TaskConfig& config, int64_t seed, int64_t count, Split split) {
  const std::shared_ptr<const Task> task = config.make();
  return [task, split, seed, count](int64_t index) {
    return as_batch(example_batch(*task, seed, split, index * count, count));
  };
}

BatchSource training_source(const RunConfig& config) {
  std::vector<BatchSource> sources{batch_source(config.task, config.train.seed, config.train.batch, Split::train)};
  std::vector<int64_t> until{1};  // cumulated weights
  for (const TaskVariant& variant : config.trained_variants()) {
    sources.push_back(batch_source(variant.task, config.train.seed, config.train.batch, Split::train));
    until.push_back(until.back() + variant.weight);
  }
  if (sources.size() == 1) return sources.front();
  return [sources, until, seed = config.train.seed](int64_t index) {
    Random random{static_cast<uint64_t>(seed), static_cast<uint64_t>(index), kMixtureStream};
    const auto lot = static_cast<int64_t>(random.below(static_cast<uint64_t>(until.back())));
    const auto chosen = std::upper_bound(until.begin(), until.end(), lot) - until.begin();
    return sources[static_cast<size_t>(chosen)](index);
  };
}

Decoder make_model(const RunConfig& config) { return Decoder(config.model, config.vocabulary()); }

int64_t load_parameters(const std::string& path, const Decoder& model) {
  const torch::NoGradGuard no_grad;
  const Checkpoint checkpoint = load_checkpoint(path);
  const auto parameters = model->named_parameters();
  for (const auto& item : parameters) {
    const auto stored = checkpoint.tensors.find("model." + item.key());
    if (stored == checkpoint.tensors.end()) {
      fail("{}: there is no tensor 'model.{}': the checkpoint is of another model than that of config.yaml", path,
           item.key());
    }
    if (stored->second.sizes() != item.value().sizes()) {
      fail("{}: tensor 'model.{}' has another shape than the model of config.yaml", path, item.key());
    }
  }
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (name.rfind("model.", 0) == 0 && !parameters.contains(name.substr(6))) {
      fail("{}: the model of config.yaml has no place for tensor '{}' (of another number of layers, or another mixer?)",
           path, name);
    }
  }
  for (const auto& item : parameters) torch::Tensor(item.value()).copy_(checkpoint.tensor("model." + item.key()));
  return std::stoll(checkpoint.field("step"));
}

Trainer make_trainer(const RunConfig& config, const RunFolder& folder, const std::vector<std::string>& provenance,
                     bool resume, const torch::Device& device) {
  return Trainer(make_model(config), config.train, training_source(config),
                 batch_source(config.task, config.train.seed, config.train.batch, Split::test), folder, provenance,
                 resume, device);
}

}  // namespace klab
