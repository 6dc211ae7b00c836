// SPDX-License-Identifier: Apache-2.0
#include "core/public/kimi_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/text.h"

namespace klab {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMostLayers = 1000, kMostExperts = 10'000;
constexpr int64_t kWidest = int64_t{1} << 24;  // limit for layer widths and the vocabulary
constexpr const char* kLinear = "linear_attention";
constexpr const char* kFull = "full_attention";
constexpr const char* kDense = "dense";
constexpr const char* kSparse = "sparse";

// config.json of moonshotai/Kimi-Linear-48B-A3B-Instruct, without fields that no reader needs.
constexpr const char* kKimiLinear48b = R"({
  "architectures": ["KimiLinearForCausalLM"], "model_type": "kimi_linear", "dtype": "bfloat16",
  "hidden_size": 2304, "num_hidden_layers": 27, "vocab_size": 163840, "rms_norm_eps": 1e-05, "hidden_act": "silu",
  "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 72, "q_lora_rank": null, "kv_lora_rank": 512,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "mla_use_nope": true,
  "intermediate_size": 9216, "moe_intermediate_size": 1024, "num_experts": 256, "num_experts_per_token": 8,
  "num_shared_experts": 1, "first_k_dense_replace": 1, "moe_layer_freq": 1, "moe_router_activation_func": "sigmoid",
  "moe_renormalize": true, "routed_scaling_factor": 2.446, "use_grouped_topk": true, "num_expert_group": 1,
  "topk_group": 1, "num_nextn_predict_layers": 0, "tie_word_embeddings": false,
  "bos_token_id": 163584, "eos_token_id": 163586, "pad_token_id": 163839, "model_max_length": 1048576,
  "linear_attn_config": {"head_dim": 128, "num_heads": 32, "short_conv_kernel_size": 4,
    "full_attn_layers": [4, 8, 12, 16, 20, 24, 27],
    "kda_layers": [1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19, 21, 22, 23, 25, 26]}
})";

// Fields without effect on a forward pass.
const std::set<std::string>& ignored_fields() {
  static const std::set<std::string> names = {"_name_or_path",
                                              "architectures",
                                              "attention_dropout",
                                              "auto_map",
                                              "dtype",
                                              "head_dim",
                                              "initializer_range",
                                              "model_max_length",
                                              "model_type",
                                              "num_nextn_predict_layers",
                                              "output_router_logits",
                                              "pretraining_tp",
                                              "rope_interleave",
                                              "rope_parameters",
                                              "rope_scaling",
                                              "rope_theta",
                                              "torch_dtype",
                                              "transformers_version",
                                              "use_cache",
                                              "use_grouped_topk",
                                              "max_position_embeddings",
                                              "id2label",
                                              "label2id",
                                              "return_dict"};
  return names;
}

// The fields of one JSON object, read by name or alias; refuse_unknown() rejects fields that were never read.
class Reader {
 public:
  Reader(const Json& json, std::string origin) : json_(json), origin_(std::move(origin)) {}

  std::string where(const std::string& name) const { return fmt::format("{}: {}", origin_, name); }

  // The value under any of the names, or null. Throws UsageError for two different values.
  Json find(const std::vector<std::string>& names) {
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

  int64_t count(const std::vector<std::string>& names, int64_t least, int64_t most,
                std::optional<int64_t> absent = std::nullopt) {
    const Json value = find(names);
    if (value.is_null() && absent) return *absent;
    if (value.is_null()) missing(names);
    const bool whole = value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX);
    if (!whole || value.get<int64_t>() < least || value.get<int64_t>() > most) {
      refuse("{} = {} must be a whole number in {}..{}", where(names.front()), value.dump(), least, most);
    }
    return value.get<int64_t>();
  }

  double number(const std::string& name) {
    const Json value = find({name});
    if (value.is_null()) missing({name});
    if (!value.is_number()) refuse("{} = {} must be a number", where(name), value.dump());
    return value.get<double>();
  }

  bool flag(const std::vector<std::string>& names, bool absent) {
    const Json value = find(names);
    if (value.is_null()) return absent;
    if (!value.is_boolean()) refuse("{} = {} must be true or false", where(names.front()), value.dump());
    return value.get<bool>();
  }

  // A field with only one supported value.
  void only(const std::string& name, const Json& value, const std::string& because) {
    const Json given = find({name});
    if (!given.is_null() && given != value) {
      refuse("{} = {}, but must be {}: {}", where(name), given.dump(), value.dump(), because);
    }
  }

  [[noreturn]] void missing(const std::vector<std::string>& names) const {
    refuse("{}: the field {} is missing", origin_, join(names, " (or ") + std::string(names.size() - 1, ')'));
  }

  void refuse_unknown() const {
    const std::vector<std::string> all(known_.begin(), known_.end());
    for (const auto& [name, value] : json_.items()) {
      if (known_.count(name) == 0 && ignored_fields().count(name) == 0) {
        refuse("{}: unknown field '{}'{}", origin_, name, did_you_mean(name, all));
      }
    }
  }

 private:
  const Json& json_;
  std::string origin_;
  std::set<std::string> known_;
};

// Run-length encodes equal neighbours: "kda*3", "mla", "kda*2".
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

// A list with one of `words` for each layer.
std::vector<std::string> layer_words(Reader& top, const std::string& name, int64_t layers,
                                     const std::vector<std::string>& words) {
  const Json list = top.find({name});
  if (list.is_null()) return {};
  if (!list.is_array() || static_cast<int64_t>(list.size()) != layers) {
    refuse("{} must be a list of {} words, one for each layer", top.where(name), layers);
  }
  std::vector<std::string> all;
  for (const Json& item : list) {
    if (!item.is_string() || std::find(words.begin(), words.end(), item.get<std::string>()) == words.end()) {
      refuse("{}: layer {} is {}, but must be one of {}", top.where(name), all.size() + 1, item.dump(), join(words));
    }
    all.push_back(item.get<std::string>());
  }
  return all;
}

// Converts the two 1-based lists of linear_attn_config to one word for each layer.
std::vector<std::string> listed_layers(Reader& linear, int64_t layers) {
  std::vector<std::string> all(static_cast<size_t>(layers));
  for (const auto& [name, word] : {std::pair{"kda_layers", kLinear}, {"full_attn_layers", kFull}}) {
    const Json list = linear.find({name});
    if (list.is_null()) linear.missing({name});
    if (!list.is_array()) refuse("{} must be a list of layers, counted from 1", linear.where(name));
    for (const Json& item : list) {
      if (!item.is_number_integer() || item.get<int64_t>() < 1 || item.get<int64_t>() > layers) {
        refuse("{}: {} is not a layer; layers are counted from 1 to {}", linear.where(name), item.dump(), layers);
      }
      std::string& layer = all[static_cast<size_t>(item.get<int64_t>() - 1)];
      if (!layer.empty()) refuse("{}: layer {} is listed twice", linear.where(name), item.dump());
      layer = word;
    }
  }
  const auto absent = std::find(all.begin(), all.end(), "");
  if (absent != all.end()) {
    refuse("{}: layer {} is in neither list", linear.where("kda_layers and full_attn_layers"),
           absent - all.begin() + 1);
  }
  return all;
}

// Collects `model.*` keys, each with its field as the origin.
struct Assignments {
  const std::string origin;
  std::vector<Assignment> all;
  void operator()(const std::string& key, const Value& value, const std::string& field) {
    all.push_back({"model." + key, value, fmt::format("{}: {}", origin, field)});
  }
};

struct LinearShape {
  int64_t heads, head_dim, taps;
};

LinearShape linear_shape(Reader& top, Reader& linear) {
  const auto either = [&](const char* inner, const char* outer, int64_t most) {
    const Json inside = linear.find({inner}), outside = top.find({outer});
    if (!inside.is_null() && !outside.is_null() && inside != outside) {
      refuse("{} = {}, but {} = {}: two names of the same field with different values", linear.where(inner),
             inside.dump(), outer, outside.dump());
    }
    if (inside.is_null() && outside.is_null()) top.missing({std::string("linear_attn_config.") + inner, outer});
    return inside.is_null() ? top.count({outer}, 1, most) : linear.count({inner}, 1, most);
  };
  return {either("num_heads", "linear_num_heads", kWidest), either("head_dim", "linear_head_dim", kWidest),
          either("short_conv_kernel_size", "linear_conv_kernel_dim", 1024)};
}

std::vector<std::string> layer_kinds(Reader& top, Reader& linear, bool has_linear, int64_t layers) {
  const std::vector<std::string> named = layer_words(top, "layer_types", layers, {kLinear, kFull});
  if (!has_linear && named.empty()) top.missing({"linear_attn_config", "layer_types"});
  if (!has_linear) return named;
  const std::vector<std::string> listed = listed_layers(linear, layers);
  if (!named.empty() && named != listed) {
    refuse("{} contradicts linear_attn_config: layer {} differs", top.where("layer_types"),
           std::mismatch(named.begin(), named.end(), listed.begin()).first - named.begin() + 1);
  }
  return listed;
}

// The number of dense layers at the start; all later ones have experts.
int64_t dense_layers(Reader& top, int64_t layers) {
  const std::vector<std::string> words = layer_words(top, "mlp_layer_types", layers, {kDense, kSparse});
  const int64_t first = top.count({"first_k_dense_replace"}, 0, kWidest, -1);
  if (words.empty() && first < 0) top.missing({"first_k_dense_replace", "mlp_layer_types"});
  if (words.empty()) return std::min(first, layers);
  const auto sparse = std::find(words.begin(), words.end(), kSparse);
  const auto again = std::find(sparse, words.end(), kDense);
  if (again != words.end()) {
    refuse("{}: layer {} is dense, but follows a sparse one; klab supports dense layers only at the start",
           top.where("mlp_layer_types"), again - words.begin() + 1);
  }
  const int64_t dense = sparse - words.begin();
  if (first >= 0 && std::min(first, layers) != dense) {
    refuse("{} has {} dense layers, but first_k_dense_replace = {}", top.where("mlp_layer_types"), dense, first);
  }
  return dense;
}

void read_attention(Reader& top, Assignments& set, bool present) {
  const int64_t heads = top.count({"num_attention_heads"}, 1, kWidest);
  const int64_t key_heads = top.count({"num_key_value_heads"}, 1, kWidest, heads);
  if (key_heads != heads) {
    refuse("{} = {}, but must equal num_attention_heads = {}: latent attention has keys for every head",
           top.where("num_key_value_heads"), key_heads, heads);
  }
  const int64_t nope = top.count({"qk_nope_head_dim"}, 1, kWidest), rope = top.count({"qk_rope_head_dim"}, 0, kWidest);
  const int64_t value = top.count({"v_head_dim"}, 1, kWidest), latent = top.count({"kv_lora_rank"}, 1, kWidest);
  const int64_t rank = top.count({"q_lora_rank"}, 1, kWidest, 0);
  const int64_t sum = top.count({"qk_head_dim"}, 1, 2 * kWidest, nope + rope);
  if (sum != nope + rope) {
    refuse("{} = {}, but qk_nope_head_dim + qk_rope_head_dim = {}", top.where("qk_head_dim"), sum, nope + rope);
  }
  top.only("mla_use_nope", true, "latent attention of Kimi Linear has no position encoding");
  top.only("attention_bias", false, "klab's projections have no bias");
  if (!present) return;
  set("mla.heads", heads, "num_attention_heads");
  set("mla.nope_dim", nope, "qk_nope_head_dim");
  set("mla.rope_dim", rope, "qk_rope_head_dim");
  set("mla.value_dim", value, "v_head_dim");
  set("mla.kv_lora_rank", latent, "kv_lora_rank");
  set("mla.q_lora_rank", rank, "q_lora_rank");
}

void read_experts(Reader& top, Assignments& set, int64_t layers) {
  const int64_t dense = dense_layers(top, layers);
  const bool sparse = dense < layers;
  const auto optional = [&](int64_t value) { return sparse ? std::nullopt : std::optional<int64_t>(value); };
  const int64_t experts = top.count({"num_experts", "num_local_experts"}, sparse ? 1 : 0, kMostExperts, optional(0));
  const int64_t least = sparse ? 1 : 0, most = sparse ? experts : kMostExperts;
  const int64_t chosen = top.count({"num_experts_per_token", "num_experts_per_tok"}, least, most, optional(0));
  const int64_t width = top.count({"moe_intermediate_size"}, least, kWidest, optional(0));
  const int64_t shared = top.count({"num_shared_experts", "n_shared_experts"}, 0, kMostExperts, 0);
  const int64_t groups = top.count({"num_expert_group", "n_group"}, 1, kMostExperts, 1);
  const int64_t open_groups = top.count({"topk_group"}, 1, groups, 1);
  const bool renormalise = top.flag({"moe_renormalize", "norm_topk_prob"}, true);
  const double scaling = sparse ? top.number("routed_scaling_factor") : (top.find({"routed_scaling_factor"}), 1);
  top.only("moe_layer_freq", 1, "every layer after the dense ones has experts");
  top.only("moe_router_activation_func", "sigmoid", "klab's router supports no other function");
  if (!sparse) return;
  if (experts % groups != 0) {
    refuse("{} = {} must divide num_experts = {}", top.where("num_expert_group"), groups, experts);
  }
  if (chosen > open_groups * (experts / groups)) {
    refuse("{} = {} must be at most {}: topk_group = {} groups of {} experts", top.where("num_experts_per_token"),
           chosen, open_groups * (experts / groups), open_groups, experts / groups);
  }
  set("first_dense", dense, "first_k_dense_replace");
  set("moe.experts", experts, "num_experts");
  set("moe.experts_per_token", chosen, "num_experts_per_token");
  set("moe.expert_width", width, "moe_intermediate_size");
  set("moe.shared_experts", shared, "num_shared_experts");
  set("moe.groups", groups, "num_expert_group");
  set("moe.groups_per_token", open_groups, "topk_group");
  set("moe.renormalise", renormalise, "moe_renormalize");
  set("moe.scaling", scaling, "routed_scaling_factor");
}

std::vector<int64_t> token_ids(const Json& value, const std::string& where) {
  std::vector<int64_t> ids;
  for (const Json& item : value.is_array() ? value : Json::array({value})) {
    if (item.is_null()) continue;
    if (!item.is_number_integer()) refuse("{} = {} must be a token id or a list of them", where, value.dump());
    ids.push_back(item.get<int64_t>());
  }
  return ids;
}

PublicTokens read_tokens(Reader& top) {
  const auto one = [&](const char* name) -> std::optional<int64_t> {
    const std::vector<int64_t> ids = token_ids(top.find({name}), top.where(name));
    return ids.empty() ? std::nullopt : std::optional<int64_t>(ids.front());
  };
  return {one("bos_token_id"), one("pad_token_id"), token_ids(top.find({"eos_token_id"}), top.where("eos_token_id"))};
}

Json parse_object(const std::string& text, const std::string& origin) {
  Json json;
  try {
    json = parse_json(text, origin);
  } catch (const Error& error) {
    refuse("{}", error.what());
  }
  if (!json.is_object()) refuse("{}: must be a JSON object", origin);
  return json;
}

}  // namespace

PublicConfig parse_public_config(const std::string& text, const std::string& origin) {
  const Json json = parse_object(text, origin);
  Reader top(json, origin);
  top.only("model_type", "kimi_linear", "klab reads Kimi Linear checkpoints only");
  if (!top.find({"quantization_config"}).is_null()) {
    refuse("{}: klab reads bfloat16, float16 and float32 weights, but not quantised ones",
           top.where("quantization_config"));
  }
  const Json architectures = top.find({"architectures"});
  const bool ours = !architectures.is_array() || architectures.empty() ||
                    std::any_of(architectures.begin(), architectures.end(), [](const Json& name) {
                      return name.is_string() && name.get<std::string>().rfind("KimiLinear", 0) == 0;
                    });
  if (!ours) refuse("{} = {} must name KimiLinearForCausalLM", top.where("architectures"), architectures.dump());
  top.find({"model_max_length", "max_position_embeddings"});  // unused, but must agree
  const Json linear_json = json.value("linear_attn_config", Json());
  const bool has_linear = linear_json.is_object();
  if (!has_linear && !linear_json.is_null()) refuse("{} must be an object", top.where("linear_attn_config"));
  const Json inside = has_linear ? linear_json : Json::object();
  Reader linear(inside, has_linear ? top.where("linear_attn_config") : origin);
  top.find({"linear_attn_config"});

  Assignments set{origin, {}};
  const int64_t layers = top.count({"num_hidden_layers"}, 1, kMostLayers);
  const LinearShape shape = linear_shape(top, linear);
  std::vector<std::string> kinds = layer_kinds(top, linear, has_linear, layers);
  std::replace(kinds.begin(), kinds.end(), std::string(kLinear), std::string("kda"));
  std::replace(kinds.begin(), kinds.end(), std::string(kFull), std::string("mla"));
  const auto has = [&](const char* mixer) { return std::find(kinds.begin(), kinds.end(), mixer) != kinds.end(); };
  set("pattern", compact_pattern(kinds), "layer lists");
  set("layers", layers, "num_hidden_layers");
  set("width", top.count({"hidden_size"}, 1, kWidest), "hidden_size");
  set("vocab", top.count({"vocab_size"}, 1, kWidest), "vocab_size");
  set("mlp_width", top.count({"intermediate_size"}, 1, kWidest), "intermediate_size");
  const double eps = top.number("rms_norm_eps");
  if (!(eps > 0)) refuse("{} = {} must be positive", top.where("rms_norm_eps"), eps);
  set("norm_eps", eps, "rms_norm_eps");
  set("heads", shape.heads, "num_heads");
  set("head_dim", shape.head_dim, "head_dim");
  if (has("kda")) set("kda.conv_size", shape.taps, "short_conv_kernel_size");
  read_attention(top, set, has("mla"));
  read_experts(top, set, layers);
  top.only("hidden_act", "silu", "klab's feed-forward layers are SwiGLU");
  top.only("tie_word_embeddings", false, "klab's head has its own weights");
  PublicConfig config{{}, read_tokens(top)};
  linear.refuse_unknown();
  top.refuse_unknown();
  config.model = std::move(set.all);
  return config;
}

std::vector<std::string> builtin_public_configs() { return {"kimi-linear-48b"}; }

PublicConfig read_public_config(const std::string& path_or_name) {
  namespace fs = std::filesystem;
  if (!fs::exists(path_or_name)) {
    if (path_or_name == builtin_public_configs().front()) return parse_public_config(kKimiLinear48b, path_or_name);
    fail("there is no config '{}': neither a file, nor a folder with a config.json, nor the built-in {}", path_or_name,
         join(builtin_public_configs()));
  }
  const bool folder = fs::is_directory(path_or_name);
  const std::string path = folder ? (fs::path(path_or_name) / "config.json").string() : path_or_name;
  PublicConfig config = parse_public_config(read_file(path), path);
  const std::string generation = (fs::path(path).parent_path() / "generation_config.json").string();
  if (folder && fs::exists(generation)) {
    const Json json = parse_object(read_file(generation), generation);
    for (const int64_t id : token_ids(json.value("eos_token_id", Json()), generation + ": eos_token_id")) {
      std::vector<int64_t>& stop = config.tokens.stop;
      if (std::find(stop.begin(), stop.end(), id) == stop.end()) stop.push_back(id);
    }
  }
  return config;
}

ModelConfig model_config(const PublicConfig& config, const Registry<MixerEntry>& mixers) {
  struct Root : Configurable {
    explicit Root(const Registry<MixerEntry>& known) : model(known) {}
    void visit(Fields& fields) override { fields.group("model", model); }
    void validate() const override { model.validate(); }
    ModelConfig model;
  } root(mixers);
  assign(root, config.model);
  root.validate();
  return root.model;
}

}  // namespace klab
