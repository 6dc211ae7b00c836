// SPDX-License-Identifier: Apache-2.0
#include "core/public/kimi_linear.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"

namespace klab {
namespace {

using Json = nlohmann::ordered_json;

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

// Converts the two 1-based lists of linear_attn_config to one word for each layer.
std::vector<std::string> listed_layers(ConfigReader& linear, int64_t layers) {
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

struct LinearShape {
  int64_t heads, head_dim, taps;
};

LinearShape linear_shape(ConfigReader& top, ConfigReader& linear) {
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

std::vector<std::string> layer_kinds(ConfigReader& top, ConfigReader& linear, bool has_linear, int64_t layers) {
  const std::vector<std::string> named = top.layer_words("layer_types", layers, {kLinear, kFull});
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
int64_t dense_layers(ConfigReader& top, int64_t layers) {
  const std::vector<std::string> words = top.layer_words("mlp_layer_types", layers, {kDense, kSparse});
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

// `mixer`: of the layers with latent attention, or "" if there are none.
void read_attention(ConfigReader& top, ConfigKeys& set, const std::string& mixer) {
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
  if (mixer.empty()) return;
  set(mixer + ".heads", heads, "num_attention_heads");
  set(mixer + ".nope_dim", nope, "qk_nope_head_dim");
  set(mixer + ".rope_dim", rope, "qk_rope_head_dim");
  set(mixer + ".value_dim", value, "v_head_dim");
  set(mixer + ".kv_lora_rank", latent, "kv_lora_rank");
  set(mixer + ".q_lora_rank", rank, "q_lora_rank");
}

void read_experts(ConfigReader& top, ConfigKeys& set, int64_t layers) {
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

// --- Tensors -------------------------------------------------------------------------------------------------------

bool starts_with(const std::string& text, const std::string& with) { return text.rfind(with, 0) == 0; }

bool ends_with(const std::string& text, const std::string& with) {
  return text.size() >= with.size() && text.compare(text.size() - with.size(), with.size(), with) == 0;
}

struct Name {
  const char *ours, *published;
};

constexpr Name kWhole[] = {{"embedding", "model.embed_tokens.weight"},
                           {"norm.weight", "model.norm.weight"},
                           {"lm_head.weight", "lm_head.weight"}};

constexpr Name kOfLayer[] = {{"mixer_norm.weight", "input_layernorm.weight"},
                             {"mlp_norm.weight", "post_attention_layernorm.weight"},
                             {"mixer.q_conv.weight", "self_attn.q_conv1d.weight"},
                             {"mixer.k_conv.weight", "self_attn.k_conv1d.weight"},
                             {"mixer.v_conv.weight", "self_attn.v_conv1d.weight"},
                             {"mixer.o_norm", "self_attn.o_norm.weight"},
                             {"mixer.kv_a_proj.weight", "self_attn.kv_a_proj_with_mqa.weight"},
                             {"mixer.kv_a_norm.weight", "self_attn.kv_a_layernorm.weight"},
                             {"mixer.q_a_norm.weight", "self_attn.q_a_layernorm.weight"},
                             {"mlp.router.weight", "block_sparse_moe.gate.weight"},
                             {"mlp.correction_bias", "block_sparse_moe.gate.e_score_correction_bias"}};

// Equal names in both layouts, after "mixer." and "self_attn.".
constexpr const char* kOfMixer[] = {"q_proj.weight",   "k_proj.weight",   "v_proj.weight",   "o_proj.weight",
                                    "f_a_proj.weight", "f_b_proj.weight", "g_a_proj.weight", "g_b_proj.weight",
                                    "b_proj.weight",   "A_log",           "dt_bias",         "q_a_proj.weight",
                                    "q_b_proj.weight", "kv_b_proj.weight"};

constexpr Name kOfExpert[] = {
    {"gate_proj.weight", "w1.weight"}, {"up_proj.weight", "w3.weight"}, {"down_proj.weight", "w2.weight"}};

// The published name of a layer's parameter, after "model.layers.N.", or "".
std::string published(const std::string& ours) {
  for (const Name& name : kOfLayer) {
    if (ours == name.ours) return name.published;
  }
  for (const char* same : kOfMixer) {
    if (ours == std::string("mixer.") + same) return std::string("self_attn.") + same;
  }
  if (starts_with(ours, "mlp.shared.")) return "block_sparse_moe.shared_experts." + ours.substr(11);
  if (starts_with(ours, "mlp.expert")) {
    const size_t dot = ours.find('.', 10);
    for (const Name& name : kOfExpert) {
      if (ours.substr(dot + 1) == name.ours) {
        return "block_sparse_moe.experts." + ours.substr(10, dot - 10) + "." + name.published;
      }
    }
  }
  return starts_with(ours, "mlp.") ? ours : "";
}

// The location of a layer's parameter in transformers 5's modules or files; without a name if equal to published().
TensorPlace in_memory(const std::string& ours, const std::vector<int64_t>& shape) {
  const int64_t rows = shape.front();
  if (ends_with(ours, "_conv.weight")) {
    const int64_t which = std::string("qkv").find(ours[std::string("mixer.").size()]);
    return {"self_attn.conv1d.weight", shape, -1, {{which * rows, rows}}};
  }
  for (const char* name : {"f_a_proj.weight", "f_b_proj.weight", "A_log", "dt_bias"}) {
    if (ours == std::string("mixer.") + name) return {std::string("self_attn.forget_gate.") + name, shape};
  }
  if (starts_with(ours, "mlp.expert")) {
    const size_t dot = ours.find('.', 10);
    const int64_t expert = std::stoll(ours.substr(10, dot - 10));
    const std::string which = ours.substr(dot + 1);
    if (which == "down_proj.weight") return {"mlp.experts.down_proj", shape, expert};
    return {"mlp.experts.gate_up_proj", shape, expert, {{which == "gate_proj.weight" ? 0 : rows, rows}}};
  }
  // Dense layers: files written by transformers use the name of layers with experts.
  const std::string dense = "mlp.", sparse = "block_sparse_moe.";
  const std::string name = published(ours);
  if (starts_with(name, dense)) return {sparse + name.substr(dense.size()), shape};
  if (starts_with(name, sparse)) return {dense + name.substr(sparse.size()), shape};
  return {};
}

std::vector<int64_t> written_shape(const std::string& ours, const std::vector<int64_t>& shape) {
  if (ends_with(ours, "_conv.weight")) return {shape[0], 1, shape[1]};
  if (ends_with(ours, ".A_log")) return {1, 1, shape[0], 1};
  return shape;
}

// --- Writing -------------------------------------------------------------------------------------------------------

// The mixer of the layers with latent attention, or "".
std::string latent_kind(const ModelConfig& config) {
  const std::vector<std::string> kinds = config.layer_mixers();
  const auto found = std::find_if(kinds.begin(), kinds.end(), [](const std::string& kind) { return kind != "kda"; });
  return found == kinds.end() ? "" : *found;
}

// Widths are read from the weights. Without MLA layers the fields get plausible values.
void add_attention(Json& json, const ModelConfig& config, const Decoder& model) {
  int64_t heads = config.heads, nope = config.head_dim, rope = 0, value = nope, latent = 4 * nope, rank = 0;
  const std::string kind = latent_kind(config);
  if (const TokenMixer* mla = first_mixer(config, model, kind)) {
    const auto own = option_of(config, kind + ".heads").get<int64_t>();
    heads = own > 0 ? own : config.heads;
    latent = weight_of(*mla, "kv_b_proj").size(1);
    rope = weight_of(*mla, "kv_a_proj").size(0) - latent;
    value = weight_of(*mla, "o_proj").size(1) / heads;
    nope = weight_of(*mla, "kv_b_proj").size(0) / heads - value;
    if (const torch::Tensor down = weight_of(*mla, "q_a_proj"); down.defined()) rank = down.size(0);
  }
  json["num_attention_heads"] = heads;
  json["num_key_value_heads"] = heads;
  json["head_dim"] = config.width / heads;  // as in the published file; unused
  json["q_lora_rank"] = rank > 0 ? Json(rank) : Json();
  json["kv_lora_rank"] = latent;
  json["qk_nope_head_dim"] = nope;
  json["qk_rope_head_dim"] = rope;
  json["v_head_dim"] = value;
  json["mla_use_nope"] = true;
}

void add_linear_attention(Json& json, const ModelConfig& config, const Decoder& model) {
  std::vector<int64_t> kda, full;
  const std::vector<std::string> kinds = config.layer_mixers();
  for (size_t i = 0; i < kinds.size(); ++i) (kinds[i] == "kda" ? kda : full).push_back(static_cast<int64_t>(i) + 1);
  const TokenMixer* mixer = first_mixer(config, model, "kda");
  json["linear_attn_config"] = {{"head_dim", config.head_dim},
                                {"num_heads", config.heads},
                                {"short_conv_kernel_size", mixer == nullptr ? 4 : weight_of(*mixer, "q_conv").size(1)},
                                {"full_attn_layers", full},
                                {"kda_layers", kda}};
}

void add_feed_forward(Json& json, const ModelConfig& config, const Decoder& model) {
  const int64_t dense = config.moe.experts == 0 ? config.layers : std::min(config.first_dense, config.layers);
  const FeedForward &first = *model->layers().front()->feed_forward(), &last = *model->layers().back()->feed_forward();
  const bool sparse = dense < config.layers;
  const int64_t expert = sparse ? weight_of(last, "expert0.gate_proj").size(0) : 0;
  json["intermediate_size"] = dense > 0 ? weight_of(first, "gate_proj").size(0) : expert;
  json["moe_intermediate_size"] = expert;
  json["num_experts"] = sparse ? config.moe.experts : 0;
  json["num_experts_per_token"] = sparse ? config.moe.experts_per_token : 0;
  json["num_shared_experts"] = sparse ? config.moe.shared_experts : 0;
  json["first_k_dense_replace"] = dense;
  json["moe_layer_freq"] = 1;
  json["moe_router_activation_func"] = "sigmoid";
  json["moe_renormalize"] = config.moe.renormalise;
  json["routed_scaling_factor"] = config.moe.scaling;
  json["use_grouped_topk"] = true;
  json["num_expert_group"] = config.moe.groups;
  json["topk_group"] = config.moe.groups_per_token;
}

}  // namespace

bool KimiLinear::reads(const Json& json) const {
  const Json type = json.value("model_type", Json());
  return type.is_null() || type == "kimi_linear";
}

PublicConfig KimiLinear::read(const Json& json, const std::string& origin) const {
  ConfigReader top(json, origin);
  top.find({"model_type"});
  top.refuse_quantised();
  top.check_architectures({"KimiLinear", "KimiK3"});
  top.find({"model_max_length", "max_position_embeddings"});  // unused, but must agree
  const Json linear_json = json.value("linear_attn_config", Json());
  const bool has_linear = linear_json.is_object();
  if (!has_linear && !linear_json.is_null()) refuse("{} must be an object", top.where("linear_attn_config"));
  const Json inside = has_linear ? linear_json : Json::object();
  ConfigReader linear(inside, has_linear ? top.where("linear_attn_config") : origin);
  top.find({"linear_attn_config"});

  ConfigKeys set{origin};
  const int64_t layers = top.count({"num_hidden_layers"}, 1, kMostLayers);
  const LinearShape shape = linear_shape(top, linear);
  std::vector<std::string> kinds = layer_kinds(top, linear, has_linear, layers);
  const std::string latent = attention(json);
  std::replace(kinds.begin(), kinds.end(), std::string(kLinear), std::string("kda"));
  std::replace(kinds.begin(), kinds.end(), std::string(kFull), latent);
  const auto has = [&](const std::string& kind) { return std::find(kinds.begin(), kinds.end(), kind) != kinds.end(); };
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
  read_attention(top, set, has(latent) ? latent : "");
  read_experts(top, set, layers);
  read_more(top, linear, has("kda"), set);
  top.only("tie_word_embeddings", false, "the published models have separate weights");
  const PublicTokens tokens = top.tokens();
  linear.refuse_unknown(ignored_fields());
  top.refuse_unknown(ignored_fields());
  return {std::move(set.all), tokens, this};
}

void KimiLinear::read_more(ConfigReader& top, ConfigReader&, bool, ConfigKeys&) const {
  top.only("hidden_act", "silu", "the feed-forward layers of Kimi Linear are SwiGLU");
}

std::map<std::string, std::string> KimiLinear::builtin() const { return {{"kimi-linear-48b", kKimiLinear48b}}; }

bool KimiLinear::writes(const ModelConfig& config) const { return has_only(config, {"kda", "mla"}); }

std::set<std::string> KimiLinear::expressed() const {
  std::set<std::string> keys = {"layers",
                                "width",
                                "heads",
                                "head_dim",
                                "mlp_width",
                                "vocab",
                                "norm_eps",
                                "pattern",
                                "ratio",
                                "last_layer",
                                "first_dense",
                                "kda.conv_size",
                                "moe.experts",
                                "moe.groups",
                                "moe.scaling",
                                "moe.bias_update",
                                "moe.experts_per_token",
                                "moe.expert_width",
                                "moe.shared_experts",
                                "moe.groups_per_token",
                                "moe.renormalise"};
  for (const char* mixer : {"mla.", "gated_mla."}) {
    for (const char* key : {"heads", "nope_dim", "rope_dim", "value_dim", "kv_lora_rank", "q_lora_rank"}) {
      keys.insert(std::string(mixer) + key);
    }
  }
  return keys;
}

KimiLinear::Json KimiLinear::fields(const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
                                    const std::string& dtype) const {
  Json json = {{"architectures", {"KimiLinearForCausalLM"}}, {"model_type", "kimi_linear"}, {"dtype", dtype}};
  json["hidden_size"] = config.width;
  json["num_hidden_layers"] = config.layers;
  json["vocab_size"] = model->vocabulary();
  json["rms_norm_eps"] = config.norm_eps;
  json["hidden_act"] = "silu";
  json["tie_word_embeddings"] = false;
  add_attention(json, config, model);
  add_linear_attention(json, config, model);
  add_feed_forward(json, config, model);
  json["num_nextn_predict_layers"] = 0;
  add_tokens(json, tokens);
  json["initializer_range"] = 0.02;
  json["use_cache"] = true;
  return json;
}

std::vector<TensorPlace> KimiLinear::places(const ModelConfig& config, const std::string& parameter,
                                            const std::vector<int64_t>& shape) const {
  for (const Name& whole : kWhole) {
    if (parameter == whole.ours) return {{whole.published, shape}};
  }
  const size_t dot = parameter.find('.');
  const std::string ours = dot == std::string::npos ? "" : parameter.substr(dot + 1);
  if (!starts_with(parameter, "layer") || published(ours).empty()) {
    fail("the public layout of {} has no name for the parameter '{}'", name(), parameter);
  }
  const std::string layer = "model.layers." + parameter.substr(5, dot - 5) + ".";
  std::vector<TensorPlace> all = {{published(ours), written_shape(ours, shape)}};
  if (const TensorPlace other = in_memory(ours, shape); !other.name.empty()) all.push_back(other);
  for (TensorPlace& place : all) {
    place.name = layer + place.name;
    if (ends_with(ours, ".dt_bias")) place.also = {config.heads, shape[0] / config.heads};
  }
  return all;
}

// The layout has shared experts in every layer with experts; they are empty tensors if the model has none.
std::vector<SpareTensor> KimiLinear::spare(const ModelConfig& config) const {
  std::vector<SpareTensor> all;
  if (config.moe.experts == 0 || config.moe.shared_experts > 0) return all;
  for (int64_t layer = config.first_dense; layer < config.layers; ++layer) {
    const std::string shared = fmt::format("model.layers.{}.block_sparse_moe.shared_experts.", layer);
    all.push_back({shared + "gate_proj.weight", {0, config.width}});
    all.push_back({shared + "up_proj.weight", {0, config.width}});
    all.push_back({shared + "down_proj.weight", {config.width, 0}});
  }
  return all;
}

bool KimiLinear::passes_over(const std::string& tensor) const {
  return starts_with(tensor, "model.mtp") || ends_with(tensor, "rotary_emb.inv_freq");
}

}  // namespace klab
