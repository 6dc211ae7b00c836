// SPDX-License-Identifier: Apache-2.0
#include "core/public/checkpoint.h"

#include <torch/nn/module.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/io/weight_files.h"
#include "core/io/weight_memory.h"
#include "core/public/kimi_layout.h"
#include "kernels/linear/linear.h"

namespace klab {
namespace {

using torch::Tensor;

// Decay rates and the routers' biases need more precision than bfloat16.
bool is_wide(const std::string& parameter) {
  for (const char* name : {".A_log", ".dt_bias", ".correction_bias"}) {
    if (parameter.size() >= std::strlen(name) && parameter.rfind(name) == parameter.size() - std::strlen(name)) {
      return true;
    }
  }
  return false;
}

// Matrices that keep their own dtype. Everything else is small and stored in the dtype of the activations, and so is
// kv_b_proj, which latent attention absorbs in parts.
bool is_matrix(const std::string& parameter, const Tensor& value) {
  return value.dim() == 2 && parameter.find("_conv.") == std::string::npos &&
         parameter.find(".kv_b_proj.") == std::string::npos;
}

bool is_quantised(const std::string& parameter, const Tensor& value) {
  return is_matrix(parameter, value) && parameter != "embedding" && may_be_int8(parameter);
}

class Loader {
 public:
  Loader(const std::string& folder, int64_t heads, const LoadOptions& options)
      : folder_(folder), heads_(heads), options_(options), files_(folder) {}

  void fill(const Decoder& model) {
    const torch::NoGradGuard no_grad;
    activations_ = activation_dtype(model);
    modules_ = model->named_modules();
    for (auto& item : model->named_parameters()) {
      if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted while loading weights");
      item.value().set_requires_grad(false);
      load(item.key(), item.value());
      if (options_.progress) options_.progress(read_, files_.bytes());
    }
    refuse_others();
  }

  uint64_t held() const { return held_; }
  double quantisation_error() const { return squared_sum_ > 0 ? std::sqrt(squared_error_ / squared_sum_) : 0; }

 private:
  // The location of a parameter in these files, among its possible names.
  TensorPlace place(const std::string& parameter, const Tensor& value) const {
    const std::vector<TensorPlace> places = public_places(parameter, value.sizes().vec());
    for (const TensorPlace& candidate : places) {
      if (files_.entries().count(candidate.name) != 0) return candidate;
    }
    fail("'{}' has no tensor '{}'", folder_, places.front().name);
  }

  // A view of the parameter's elements in the mapped file.
  Tensor view(const TensorPlace& at, const std::string& parameter, const Tensor& value) {
    Tensor found = files_.tensor(at.name);
    if (!torch::isFloatingType(found.scalar_type())) {
      fail("{}: tensor '{}' has dtype {}, but must be BF16, F16 or F32", folder_, at.name,
           c10::toString(found.scalar_type()));
    }
    const std::vector<int64_t> whole = found.sizes().vec();
    if (at.item >= 0) found = found.dim() == 3 && at.item < found.size(0) ? found.select(0, at.item) : Tensor();
    if (found.defined() && at.rows > 0 && found.dim() > 0) {
      found = at.begin + at.rows <= found.size(0) ? found.narrow(0, at.begin, at.rows) : Tensor();
    }
    if (!found.defined() || !same_shape(parameter, value.sizes().vec(), found.sizes().vec(), heads_)) {
      fail("{}: tensor '{}' has shape [{}], but its part for the model of config.json has [{}]", folder_, at.name,
           fmt::join(whole, ", "), fmt::join(value.sizes().vec(), ", "));
    }
    return found.view(value.sizes());
  }

  torch::ScalarType activation_dtype(const Decoder& model) const {
    if (options_.dtype == "float32" || options_.dtype == "float16") return torch::kFloat;
    if (options_.dtype == "bfloat16") return torch::kBFloat16;
    for (const auto& item : model->named_parameters()) {
      if (!is_matrix(item.key(), item.value())) continue;
      const auto dtype = files_.entries().at(place(item.key(), item.value()).name).dtype;
      if (dtype != torch::kBFloat16) return torch::kFloat;
    }
    return torch::kBFloat16;
  }

  torch::ScalarType matrix_dtype(torch::ScalarType in_file) const {
    if (options_.dtype == "float32") return torch::kFloat;
    if (options_.dtype == "bfloat16") return torch::kBFloat16;
    if (options_.dtype == "float16") return torch::kHalf;
    // The product kernels need weights that are at most as wide as the activations.
    return activations_ == torch::kBFloat16 ? torch::kBFloat16 : in_file == torch::kDouble ? torch::kFloat : in_file;
  }

  void load(const std::string& parameter, Tensor& value) {
    const TensorPlace at = place(parameter, value);
    const Tensor found = view(at, parameter, value);
    used_[at.name] += static_cast<uint64_t>(found.nbytes());
    read_ += found.nbytes();
    if (options_.dtype == "int8" && is_quantised(parameter, value)) {
      const kernels::QuantisedWeight rounded = quantised(at.name, found);
      squared_error_ += rounded.squared_error;
      squared_sum_ += rounded.squared_sum;
      set(value, in_memory(rounded.values, torch::kChar));
      modules_[parameter.substr(0, parameter.rfind('.'))]->as<LinearImpl>()->scale =
          in_memory(rounded.scale, torch::kFloat);
      held_ += rounded.scale.nbytes();
    } else if (options_.map && is_matrix(parameter, value) &&
               found.scalar_type() == matrix_dtype(found.scalar_type())) {
      return set(value, found);
    } else {
      const auto dtype = is_wide(parameter)            ? torch::kFloat
                         : is_matrix(parameter, value) ? matrix_dtype(found.scalar_type())
                                                       : activations_;
      set(value, in_memory(found, dtype));
    }
    files_.release_pages(at.name);
  }

  kernels::QuantisedWeight quantised(const std::string& name, const Tensor& weight) const {
    try {
      return kernels::quantise(weight);
    } catch (const c10::ValueError& error) {
      fail("{}: tensor '{}': {}", folder_, name, error.what_without_backtrace());
    }
  }

  Tensor in_memory(const Tensor& value, torch::ScalarType dtype) {
    return memory_.empty(value.sizes(), dtype).copy_(value);
  }

  void set(Tensor& parameter, const Tensor& value) {
    parameter.set_data(value);
    held_ += value.nbytes();
  }

  void refuse_others() const {
    for (const auto& [name, entry] : files_.entries()) {
      const auto used = used_.find(name);
      const uint64_t taken = used == used_.end() ? 0 : used->second, all = entry.end - entry.begin;
      if (taken == all || is_passed_over(name)) continue;  // empty tensors also have taken == all
      if (taken == 0) fail("{}: tensor '{}' does not belong to the model of config.json", folder_, name);
      fail("{}: tensor '{}' has {} bytes, but the model of config.json uses {}", folder_, name, all, taken);
    }
  }

  std::string folder_;
  int64_t heads_;
  const LoadOptions& options_;
  WeightFiles files_;
  WeightMemory memory_;
  torch::ScalarType activations_ = torch::kFloat;
  torch::OrderedDict<std::string, std::shared_ptr<torch::nn::Module>> modules_;
  std::map<std::string, uint64_t> used_;  // bytes of each tensor that were loaded into a parameter
  uint64_t read_ = 0, held_ = 0;
  double squared_error_ = 0, squared_sum_ = 0;  // of all int8 weights
};

std::string dtype_word(torch::ScalarType dtype) {
  return dtype == torch::kBFloat16 ? "bfloat16" : dtype == torch::kHalf ? "float16" : "float32";
}

}  // namespace

KimiModel load_kimi(const std::string& folder, const Registry<MixerEntry>& mixers, const LoadOptions& options) {
  if (!std::filesystem::is_directory(folder)) fail("there is no model folder '{}'", folder);
  const PublicConfig config = read_public_config(folder);
  const ModelConfig model = model_config(config, mixers);
  Loader loader(folder, model.heads, options);
  const ParameterPlace hollow(torch::kCPU, torch::kFloat, /*hollow=*/true);
  KimiModel loaded{model, config.tokens, Decoder(model, model.vocab), 0, 0};
  loader.fill(loaded.model);
  loaded.weight_bytes = loader.held();
  loaded.quantisation_error = loader.quantisation_error();
  loaded.model->eval();
  return loaded;
}

std::vector<TensorEntry> public_tensors(const Decoder& model, torch::ScalarType dtype) {
  std::vector<TensorEntry> entries;
  const auto parameters = model->named_parameters();
  for (const auto& item : parameters) {
    const std::vector<int64_t> shape = item.value().sizes().vec();
    const bool rate = is_wide(item.key()) && item.key().find(".correction_bias") == std::string::npos;
    entries.push_back(
        {public_places(item.key(), shape).front().name, rate ? torch::kFloat : dtype, public_shape(item.key(), shape)});
  }
  // The layout has shared experts in every layer with experts; they are empty tensors if the model has none.
  for (const auto& item : parameters) {
    const size_t router = item.key().find(".router.weight");
    if (router == std::string::npos) continue;
    const std::string shared = item.key().substr(0, router) + ".shared.";
    if (parameters.contains(shared + "gate_proj.weight")) continue;
    for (const char* name : {"gate_proj.weight", "up_proj.weight", "down_proj.weight"}) {
      const int64_t D = item.value().size(1);
      const std::vector<int64_t> shape = name[0] == 'd' ? std::vector<int64_t>{D, 0} : std::vector<int64_t>{0, D};
      entries.push_back({public_places(shared + name, shape).front().name, dtype, shape});
    }
  }
  return entries;
}

void save_kimi(const std::string& folder, const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
               torch::ScalarType dtype, uint64_t shard_bytes) {
  const std::string text = public_config_text(config, model, tokens, dtype_word(dtype));
  const std::vector<TensorEntry> entries = public_tensors(model, dtype);
  std::map<std::string, std::pair<const TensorEntry*, Tensor>> by_name;
  const auto parameters = model->named_parameters();
  for (size_t i = 0; i < entries.size(); ++i) {
    by_name[entries[i].name] = {&entries[i], i < parameters.size() ? parameters[i].value() : torch::empty({0})};
  }
  make_writable_folder(folder);
  write_weight_files(folder, entries, shard_bytes, [&](const std::string& name) {
    const auto& [entry, value] = by_name.at(name);
    return value.detach().to(entry->dtype).reshape(entry->shape);
  });
  write_file((std::filesystem::path(folder) / "config.json").string(), text);
}

}  // namespace klab
