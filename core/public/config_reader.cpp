// SPDX-License-Identifier: Apache-2.0
#include "core/public/config_reader.h"

#include <fmt/format.h>
#include <torch/nn/module.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/text.h"

namespace klab {

using Json = nlohmann::ordered_json;

Json ConfigReader::find(const std::vector<std::string>& names) {
  const std::string* found = nullptr;
  for (const std::string& name : names) {
    known_.insert(name);
    if (!json_.contains(name)) continue;
    if (found != nullptr && json_[*found] != json_[name]) {
      refuse("{} = {}, but {} = {}: two names of the same field with different values", where(*found),
             json_[*found].dump(), name, json_[name].dump());
    }
    found = &name;
  }
  return found == nullptr ? Json() : json_[*found];
}

int64_t ConfigReader::count(const std::vector<std::string>& names, int64_t least, int64_t most,
                            std::optional<int64_t> absent) {
  const Json value = find(names);
  if (value.is_null() && absent) return *absent;
  if (value.is_null()) missing(names);
  const bool whole = value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX);
  if (!whole || value.get<int64_t>() < least || value.get<int64_t>() > most) {
    refuse("{} = {} must be a whole number in {}..{}", where(names.front()), value.dump(), least, most);
  }
  return value.get<int64_t>();
}

double ConfigReader::number(const std::string& name, std::optional<double> absent) {
  const Json value = find({name});
  if (value.is_null() && absent) return *absent;
  if (value.is_null()) missing({name});
  if (!value.is_number()) refuse("{} = {} must be a number", where(name), value.dump());
  return value.get<double>();
}

bool ConfigReader::flag(const std::vector<std::string>& names, bool absent) {
  const Json value = find(names);
  if (value.is_null()) return absent;
  if (!value.is_boolean()) refuse("{} = {} must be true or false", where(names.front()), value.dump());
  return value.get<bool>();
}

std::vector<std::string> ConfigReader::layer_words(const std::string& name, int64_t layers,
                                                   const std::vector<std::string>& words) {
  const Json list = find({name});
  if (list.is_null()) return {};
  if (!list.is_array() || static_cast<int64_t>(list.size()) != layers) {
    refuse("{} must be a list of {} words, one for each layer", where(name), layers);
  }
  std::vector<std::string> all;
  for (const Json& item : list) {
    if (!item.is_string() || std::find(words.begin(), words.end(), item.get<std::string>()) == words.end()) {
      refuse("{}: layer {} is {}, but must be one of {}", where(name), all.size() + 1, item.dump(), join(words));
    }
    all.push_back(item.get<std::string>());
  }
  return all;
}

void ConfigReader::only(const std::string& name, const Json& value, const std::string& because) {
  const Json given = find({name});
  if (!given.is_null() && given != value) {
    refuse("{} = {}, but must be {}: {}", where(name), given.dump(), value.dump(), because);
  }
}

void ConfigReader::missing(const std::vector<std::string>& names) const {
  refuse("{}: the field {} is missing", origin_, join(names, " (or ") + std::string(names.size() - 1, ')'));
}

void ConfigReader::refuse_unknown(const std::set<std::string>& ignored) const {
  const std::vector<std::string> all(known_.begin(), known_.end());
  for (const auto& [name, value] : json_.items()) {
    if (known_.count(name) == 0 && ignored.count(name) == 0) {
      refuse("{}: unknown field '{}'{}", origin_, name, did_you_mean(name, all));
    }
  }
}

void ConfigReader::refuse_quantised() {
  if (find({"quantization_config"}).is_null()) return;
  refuse("{}: klab reads bfloat16, float16 and float32 weights, but not quantised ones", where("quantization_config"));
}

void ConfigReader::check_architectures(const std::vector<std::string>& beginnings) {
  const Json architectures = find({"architectures"});
  const auto ours = [&](const Json& name) {
    return name.is_string() && std::any_of(beginnings.begin(), beginnings.end(), [&](const std::string& beginning) {
             return name.get<std::string>().rfind(beginning, 0) == 0;
           });
  };
  if (!architectures.is_array() || architectures.empty()) return;
  if (std::any_of(architectures.begin(), architectures.end(), ours)) return;
  refuse("{} = {} must name {}ForCausalLM", where("architectures"), architectures.dump(),
         join(beginnings, "ForCausalLM or "));
}

PublicTokens ConfigReader::tokens() {
  const auto one = [&](const char* name) -> std::optional<int64_t> {
    const std::vector<int64_t> ids = token_ids(find({name}), where(name));
    return ids.empty() ? std::nullopt : std::optional<int64_t>(ids.front());
  };
  return {one("bos_token_id"), one("pad_token_id"), token_ids(find({"eos_token_id"}), where("eos_token_id"))};
}

std::vector<std::string> compact_pattern(const std::vector<std::string>& layers) {
  std::vector<std::string> items;
  for (size_t i = 0; i < layers.size();) {
    size_t end = i;
    while (end < layers.size() && layers[end] == layers[i]) ++end;
    items.push_back(end - i == 1 ? layers[i] : fmt::format("{}*{}", layers[i], end - i));
    i = end;
  }
  return items;
}

std::vector<int64_t> token_ids(const Json& value, const std::string& where) {
  std::vector<int64_t> ids;
  for (const Json& item : value.is_array() ? value : Json::array({value})) {
    if (item.is_null()) continue;
    // Some configs say -1 for no token.
    const bool known = item.is_number_unsigned() ? item.get<uint64_t>() <= INT32_MAX : item == -1;
    if (!known) refuse("{} = {} must be a token id or a list of them", where, value.dump());
    ids.push_back(item.get<int64_t>());
  }
  return ids;
}

Json text_config(const Json& json, const std::string& origin, const std::set<std::string>& outer) {
  if (!json.contains("text_config")) return json;
  Json text = json["text_config"];
  if (!text.is_object()) refuse("{}: text_config must be an object", origin);
  const auto absent = [&](const std::string& name) { return !text.contains(name) || text[name].is_null(); };
  for (const auto& [name, value] : json.items()) {
    const bool token = name == "bos_token_id" || name == "eos_token_id" || name == "pad_token_id";
    const bool same = name == "tie_word_embeddings" || name == "quantization_config";
    if (same && !absent(name) && text[name] != value) {
      refuse("{}: {} = {}, but text_config has {}", origin, name, value.dump(), text[name].dump());
    }
    if ((token || same) && !value.is_null()) {
      text[name] = value;
    } else if (!token && !same && name != "text_config" && outer.count(name) == 0) {
      refuse("{}: unknown field '{}'", origin, name);
    }
  }
  return text;
}

std::string text_origin(const Json& json, const std::string& origin) {
  return json.contains("text_config") ? origin + ": text_config" : origin;
}

void add_tokens(Json& json, const PublicTokens& tokens) {
  const auto token = [](const std::optional<int64_t>& id) { return id ? Json(*id) : Json(); };
  json["bos_token_id"] = token(tokens.begin);
  json["eos_token_id"] = tokens.stop.empty()       ? Json()
                         : tokens.stop.size() == 1 ? Json(tokens.stop.front())
                                                   : Json(tokens.stop);
  json["pad_token_id"] = token(tokens.padding);
}

torch::Tensor weight_of(const torch::nn::Module& module, const std::string& name) {
  const auto parameters = module.named_parameters();
  const auto* found = parameters.find(name + ".weight");
  return found == nullptr ? torch::Tensor() : *found;
}

const TokenMixer* first_mixer(const ModelConfig& config, const Decoder& model, const std::string& kind) {
  const std::vector<std::string> kinds = config.layer_mixers();
  const auto found = std::find(kinds.begin(), kinds.end(), kind);
  return found == kinds.end() ? nullptr : model->layers().at(static_cast<size_t>(found - kinds.begin()))->mixer().get();
}

bool has_only(const ModelConfig& config, const std::set<std::string>& kinds) {
  const std::vector<std::string> all = config.layer_mixers();
  return std::all_of(all.begin(), all.end(), [&](const std::string& kind) { return kinds.count(kind) != 0; });
}

Value option_of(const ModelConfig& config, const std::string& key) {
  const Fields fields = Fields::of(config);
  const Field* field = fields.find(key);
  if (field == nullptr) fail("the model has no option '{}'", key);
  return field->get();
}

}  // namespace klab
