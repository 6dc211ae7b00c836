// SPDX-License-Identifier: Apache-2.0
#include "core/public/checkpoint.h"

#include <torch/nn/module.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/io/weight_files.h"
#include "core/io/weight_memory.h"
#include "core/public/family.h"
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

std::vector<int64_t> without_ones(std::vector<int64_t> shape) {
  shape.erase(std::remove(shape.begin(), shape.end(), 1), shape.end());
  return shape;
}

int64_t numbers_in(torch::IntArrayRef shape) { return c10::multiply_integers(shape); }

// The part of a stored tensor at this place; undefined if the tensor is too small for it. Only the part is read.
Tensor part_of(const WeightFiles& files, const TensorPlace& at, int64_t numbers) {
  std::vector<int64_t> shape = files.entries().at(at.name).shape;
  int64_t first = 0;
  if (at.item >= 0) {
    if (shape.size() != 3 || at.item >= shape.front()) return {};
    shape.erase(shape.begin());
    first = at.item * numbers_in(shape);
  }
  if (at.padded > numbers && numbers_in(shape) == at.padded) return files.part(at.name, first, {numbers});
  if (at.rows.empty()) return files.part(at.name, first, shape);
  std::vector<Tensor> parts;
  for (const auto& [begin, rows] : at.rows) {
    if (shape.empty() || rows > shape.front() || begin > shape.front() - rows) return {};
    const int64_t row = numbers_in(torch::IntArrayRef(shape).slice(1));
    std::vector<int64_t> some = shape;
    some.front() = rows;
    parts.push_back(files.part(at.name, first + begin * row, some));
  }
  return parts.size() == 1 ? parts.front() : torch::cat(parts);
}

class Loader {
 public:
  Loader(const std::string& folder, const Family& family, const ModelConfig& config, const LoadOptions& options)
      : folder_(folder), family_(family), config_(config), options_(options), files_(folder) {
    for (const auto& [stored, entry] : files_.entries()) {
      const auto [known, is_new] = stored_.emplace(plain_name(stored), stored);
      if (!is_new) fail("{}: the tensors '{}' and '{}' are the same part of the model", folder, known->second, stored);
    }
    check_extent();
  }

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
  // A decoder has modules for all layers and experts, also without weights: the files must hold some for each of them.
  void check_extent() const {
    const int64_t experts = config_.moe.experts, sparse = std::max<int64_t>(config_.layers - config_.first_dense, 0);
    const int64_t numbers = config_.layers * config_.width + sparse * experts * config_.moe.expert_width;
    constexpr uint64_t kNumberBytes = 2;  // bfloat16 and float16
    if (kNumberBytes * static_cast<uint64_t>(numbers) <= files_.bytes()) return;
    fail("{}: the model of config.json has {} layers and {} experts in {} of them, but the weights are only {} bytes",
         folder_, config_.layers, experts, experts > 0 ? sparse : 0, files_.bytes());
  }

  // The name of a stored tensor without the family's prefix.
  std::string plain_name(const std::string& stored) const {
    for (const auto& [prefix, instead] : family_.prefixes()) {
      if (stored.starts_with(prefix)) return instead + stored.substr(prefix.size());
    }
    return stored;
  }

  // The location of a parameter in these files, among its possible ones, with the tensor's name in them.
  TensorPlace place(const std::string& parameter, const Tensor& value) const {
    const std::vector<TensorPlace> places = family_.places(config_, parameter, value.sizes().vec());
    for (TensorPlace candidate : places) {
      const auto stored = stored_.find(candidate.name);
      if (stored == stored_.end()) continue;
      candidate.name = stored->second;
      return candidate;
    }
    fail("'{}' has no tensor '{}'", folder_, places.front().name);
  }

  // The parameter's elements: a view of the mapped file, unless they are scattered in it.
  Tensor view(const TensorPlace& at, const Tensor& value) const {
    const TensorEntry& whole = files_.entries().at(at.name);
    if (!torch::isFloatingType(whole.dtype)) {
      fail("{}: tensor '{}' has dtype {}, but must be BF16, F16 or F32", folder_, at.name, c10::toString(whole.dtype));
    }
    const Tensor found = part_of(files_, at, value.numel());
    const std::vector<int64_t> expected = value.sizes().vec();
    const bool same = found.defined() && (without_ones(found.sizes().vec()) == without_ones(expected) ||
                                          (!at.also.empty() && found.sizes().vec() == at.also));
    if (!same) {
      fail("{}: tensor '{}' has shape [{}], but its part for the model of config.json has [{}]", folder_, at.name,
           fmt::join(whole.shape, ", "), fmt::join(expected, ", "));
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
    const Tensor found = view(at, value);
    const TensorEntry& entry = files_.entries().at(at.name);
    used_[at.name] += at.padded > 0 ? entry.end - entry.begin : static_cast<uint64_t>(found.nbytes());
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
      set(value, in_memory(at.offset == 0 ? found : found.to(torch::kDouble) + at.offset, dtype));
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
    std::set<std::string> spare;
    for (const SpareTensor& one : family_.spare(config_)) spare.insert(one.name);
    for (const auto& [name, entry] : files_.entries()) {
      const auto used = used_.find(name);
      const uint64_t taken = used == used_.end() ? 0 : used->second, all = entry.end - entry.begin;
      if (taken == all || family_.passes_over(name)) continue;  // empty tensors also have taken == all
      if (taken == 0 && spare.count(plain_name(name)) != 0) continue;
      if (taken == 0) fail("{}: tensor '{}' does not belong to the model of config.json", folder_, name);
      fail("{}: tensor '{}' has {} bytes, but the model of config.json uses {}", folder_, name, all, taken);
    }
  }

  std::string folder_;
  const Family& family_;
  const ModelConfig& config_;
  const LoadOptions& options_;
  WeightFiles files_;
  std::map<std::string, std::string> stored_;  // names of tensors by those without prefix
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

// A tensor to be written, with the parameters that it contains.
struct WrittenTensor {
  TensorEntry entry;
  std::vector<std::pair<TensorPlace, Tensor>> parts = {};
  double value = 0;  // elsewhere
};

// In the order of the parameters.
std::vector<WrittenTensor> written_tensors(const Decoder& model, torch::ScalarType dtype) {
  const ModelConfig& config = model->config();
  const Family& family = family_of(config);
  std::vector<WrittenTensor> all;
  std::map<std::string, size_t> index;
  for (const auto& item : model->named_parameters()) {
    const TensorPlace at = family.places(config, item.key(), item.value().sizes().vec()).front();
    const auto [known, is_new] = index.emplace(at.name, all.size());
    if (is_new) {
      const bool rate = is_wide(item.key()) && !item.key().ends_with(".correction_bias");
      all.push_back({{at.name, rate ? torch::kFloat : dtype, at.shape}});
    } else {
      all[known->second].entry.shape[0] += at.shape[0];
    }
    all[known->second].parts.emplace_back(at, item.value());
  }
  for (const SpareTensor& one : family.spare(config)) all.push_back({{one.name, dtype, one.shape}, {}, one.value});
  return all;
}

// The numbers of a tensor.
Tensor assembled(const WrittenTensor& tensor) {
  const torch::NoGradGuard no_grad;
  const auto& [entry, parts, elsewhere] = tensor;
  Tensor all = torch::full(entry.shape, elsewhere, entry.dtype);
  for (const auto& [at, parameter] : parts) {
    Tensor value = parameter.detach();
    if (at.offset != 0) value = value.to(torch::kDouble) - at.offset;
    if (at.padded > 0) {
      all.narrow(0, 0, value.numel()).copy_(value);
      continue;
    }
    value = value.reshape(at.shape);
    if (parts.size() == 1) return value.to(entry.dtype);
    int64_t row = 0;
    for (const auto& [begin, rows] : at.rows) {
      all.narrow(0, begin, rows).copy_(value.narrow(0, row, rows));
      row += rows;
    }
  }
  return all;
}

}  // namespace

PublicModel load_public(const std::string& folder, const Registry<MixerEntry>& mixers, const LoadOptions& options) {
  if (!std::filesystem::is_directory(folder)) fail("there is no model folder '{}'", folder);
  const PublicConfig config = read_public_config(folder);
  const ModelConfig model = model_config(config, mixers);
  Loader loader(folder, *config.family, model, options);
  const ParameterPlace hollow(torch::kCPU, torch::kFloat, /*hollow=*/true);
  PublicModel loaded{model, config.tokens, Decoder(model, model.vocab), 0, 0};
  loader.fill(loaded.model);
  loaded.weight_bytes = loader.held();
  loaded.quantisation_error = loader.quantisation_error();
  loaded.model->eval();
  return loaded;
}

std::vector<TensorEntry> public_tensors(const Decoder& model, torch::ScalarType dtype) {
  std::vector<TensorEntry> entries;
  for (const WrittenTensor& tensor : written_tensors(model, dtype)) entries.push_back(tensor.entry);
  return entries;
}

void save_public(const std::string& folder, const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
                 torch::ScalarType dtype, uint64_t shard_bytes) {
  const std::string text = public_config_text(config, model, tokens, dtype_word(dtype));
  const std::vector<WrittenTensor> tensors = written_tensors(model, dtype);
  std::vector<TensorEntry> entries;
  std::map<std::string, const WrittenTensor*> by_name;
  for (const WrittenTensor& tensor : tensors) {
    entries.push_back(tensor.entry);
    by_name[tensor.entry.name] = &tensor;
  }
  make_writable_folder(folder);
  write_weight_files(folder, entries, shard_bytes,
                     [&](const std::string& name) { return assembled(*by_name.at(name)); });
  write_file((std::filesystem::path(folder) / "config.json").string(), text);
}

}  // namespace klab
