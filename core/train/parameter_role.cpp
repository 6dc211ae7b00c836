// SPDX-License-Identifier: Apache-2.0
#include "core/train/parameter_role.h"

#include <torch/nn/module.h>

#include <optional>
#include <set>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/model/layers.h"

namespace klab {
namespace {

using torch::nn::Module;

// Vectors per head, or per head and level or rank: no matrices that act on activations.
const std::set<std::string>& tables_of_vectors() {
  static const std::set<std::string> names{"r_k", "B_bias", "C_bias", "mimo_x", "mimo_z", "mimo_o", "L"};
  return names;
}

// `path` is the owner's name in the model, "" for the model itself.
std::optional<ParameterRole> role_of(const std::string& path, const Module& owner, const std::string& name,
                                     int64_t dimensions) {
  if (dimensions <= 1 || tables_of_vectors().count(name) > 0) return ParameterRole::vector;
  if (path.empty() && name == "embedding") return ParameterRole::embedding;
  if (owner.as<ShortConvImpl>() != nullptr) return ParameterRole::convolution;
  if (owner.as<LinearImpl>() == nullptr || dimensions != 2) return std::nullopt;
  return path == "lm_head" ? ParameterRole::head : ParameterRole::matrix;
}

std::string shape_text(const torch::Tensor& tensor) {
  std::vector<std::string> sizes;
  for (const int64_t size : tensor.sizes()) sizes.push_back(fmt::format("{}", size));
  return join(sizes);
}

}  // namespace

std::map<std::string, ParameterRole> parameter_roles(const Module& module) {
  std::map<std::string, ParameterRole> roles;
  std::vector<std::string> unknown;
  const auto add = [&](const std::string& path, const Module& owner) {
    for (const auto& item : owner.named_parameters(/*recurse=*/false)) {
      const std::string name = path.empty() ? item.key() : path + "." + item.key();
      const auto role = role_of(path, owner, item.key(), item.value().dim());
      if (role) {
        roles[name] = *role;
      } else {
        unknown.push_back(fmt::format("{} [{}]", name, shape_text(item.value())));
      }
    }
  };
  add("", module);
  for (const auto& child : module.named_modules("", /*include_self=*/false)) add(child.key(), *child.value());
  if (!unknown.empty()) {
    refuse("the optimiser cannot tell what these parameters are for: {}. See core/train/parameter_role.h",
           join(unknown));
  }
  return roles;
}

}  // namespace klab
