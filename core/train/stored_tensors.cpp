// SPDX-License-Identifier: Apache-2.0
#include "core/train/stored_tensors.h"

#include <ATen/Parallel.h>
#include <torch/nn/module.h>

#include <filesystem>

#include "core/base/error.h"
#include "core/model/layers.h"

namespace klab {

using torch::Tensor;

std::map<std::string, Tensor> model_tensors(const torch::nn::Module& model) {
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, tensor] : own_parameters(model)) tensors["model." + name] = tensor;
  return tensors;
}

void copy_stored(const Checkpoint& from, const std::string& path, const std::map<std::string, Tensor>& wanted) {
  for (const auto& [name, tensor] : wanted) {
    const auto stored = from.tensors.find(name);
    if (stored == from.tensors.end()) {
      fail("{}: the checkpoint has no tensor '{}': it is of another model or optimiser than the config's", path, name);
    }
    if (stored->second.sizes() != tensor.sizes() || stored->second.scalar_type() != tensor.scalar_type()) {
      fail("{}: the checkpoint's tensor '{}' has another shape or dtype than the model of config.yaml", path, name);
    }
  }
  const torch::NoGradGuard no_grad;
  for (const auto& [name, tensor] : wanted) Tensor(tensor).copy_(from.tensor(name));
}

Checkpoint load_stored(const std::string& path, const torch::nn::Module& model,
                       const std::map<std::string, Tensor>& wanted) {
  Checkpoint from =
      load_checkpoint(path, [&](const std::string& name) { return name == "generator" || wanted.contains(name); });
  const auto parameters = model.named_parameters();
  for (const std::string& name : from.not_loaded) {
    if (!name.starts_with("model.") || parameters.contains(name.substr(6))) continue;
    fail(
        "{}: the checkpoint's tensor '{}' does not belong to the model of config.yaml (more layers, or another mixer?)",
        path, name);
  }
  return from;
}

void with_parameters_of(const std::string& path, const torch::nn::Module& model,
                        const std::function<void(const Checkpoint&)>& action) {
  const auto parameters = model_tensors(model);
  Checkpoint kept;
  for (const auto& [name, tensor] : parameters) kept.tensors[name] = tensor.detach().clone();
  const Checkpoint other = load_checkpoint(path, [&](const std::string& name) { return parameters.contains(name); });
  copy_stored(other, path, parameters);
  action(other);
  copy_stored(kept, "", parameters);
}

void store_progress(const TrainStatus& status, Checkpoint& checkpoint) {
  const auto json = [](const auto& value) { return nlohmann::ordered_json(value).dump(); };
  checkpoint.fields["step"] = json(status.step);
  checkpoint.fields["seconds"] = json(status.seconds);
  checkpoint.fields["threads"] = json(at::get_num_threads());
  checkpoint.fields["validation"] = to_object(status.validation).dump();
  checkpoint.fields["best"] = to_object(status.best).dump();
  checkpoint.fields["best_step"] = json(status.best_step);
  checkpoint.fields["grad_norm"] = json(status.grad_norm);
}

void restore_progress(const Checkpoint& from, TrainStatus& status) {
  status.step = from.json_field<int64_t>("step");
  status.seconds = from.json_field<double>("seconds");
  status.validation = from.json_field<Score>("validation");
  status.best = from.json_field<Score>("best");
  status.best_step = from.json_field<int64_t>("best_step");
  status.grad_norm = from.json_field<double>("grad_norm");
}

StartCheckpoint load_start(const std::string& from, const torch::nn::Module& model,
                           const std::map<std::string, Tensor>& wanted) {
  const std::string path = std::filesystem::is_directory(from) ? RunFolder{from}.last() : from;
  if (!std::filesystem::exists(path)) fail("train.from = {}: there is no file '{}'", from, path);
  StartCheckpoint start{path, load_stored(path, model, wanted)};
  copy_stored(start.checkpoint, path, model_tensors(model));
  return start;
}

}  // namespace klab
