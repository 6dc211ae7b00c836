// SPDX-License-Identifier: Apache-2.0
#include "core/train/stored_tensors.h"

#include <torch/nn/module.h>

#include <filesystem>

#include "core/base/error.h"
#include "core/train/status.h"

namespace klab {

using torch::Tensor;

std::map<std::string, Tensor> model_tensors(const torch::nn::Module& model) {
  std::map<std::string, Tensor> tensors;
  for (const auto& item : model.named_parameters()) tensors["model." + item.key()] = item.value();
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

void refuse_other_model(const Checkpoint& from, const std::string& path, const std::map<std::string, Tensor>& model) {
  for (const auto& [name, tensor] : from.tensors) {
    if (!name.starts_with("model.") || model.contains(name)) continue;
    fail(
        "{}: the checkpoint's tensor '{}' does not belong to the model of config.yaml (more layers, or another mixer?)",
        path, name);
  }
}

StartCheckpoint load_start(const std::string& from, const torch::nn::Module& model) {
  const std::string path = std::filesystem::is_directory(from) ? RunFolder{from}.last() : from;
  if (!std::filesystem::exists(path)) fail("train.from = {}: there is no file '{}'", from, path);
  StartCheckpoint start{path, load_checkpoint(path)};
  const auto tensors = model_tensors(model);
  refuse_other_model(start.checkpoint, path, tensors);
  copy_stored(start.checkpoint, path, tensors);
  return start;
}

}  // namespace klab
