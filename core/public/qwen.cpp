// SPDX-License-Identifier: Apache-2.0
#include "core/public/qwen.h"

#include <fmt/format.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/public/config_reader.h"

namespace klab {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kLinear = "linear_attention";
constexpr const char* kFull = "full_attention";

// Fields of the multimodal model beside the text model and the tokens.
const std::set<std::string> kOuter = {"architectures",        "dtype",
                                      "image_token_id",       "language_model_only",
                                      "model_type",           "torch_dtype",
                                      "transformers_version", "video_token_id",
                                      "vision_config",        "vision_end_token_id",
                                      "vision_start_token_id"};

// Fields without effect on a forward pass.
const std::set<std::string> kIgnored = {"_name_or_path",
                                        "attention_dropout",
                                        "dtype",
                                        "initializer_range",
                                        "mamba_ssm_dtype",
                                        "max_position_embeddings",
                                        "mtp_num_hidden_layers",
                                        "mtp_use_dedicated_embeddings",
                                        "output_router_logits",
                                        "router_aux_loss_coef",
                                        "torch_dtype",
                                        "transformers_version",
                                        "use_cache"};

// --- Reading the config --------------------------------------------------------------------------------------------

// The mixer of each layer: of the list layer_types, or every full_attention_interval-th with full attention.
std::vector<std::string> layer_mixers(ConfigReader& top, int64_t layers) {
  std::vector<std::string> kinds = top.layer_words("layer_types", layers, {kLinear, kFull});
  const int64_t interval = top.count({"full_attention_interval"}, 1, kMostLayers, 0);
  if (kinds.empty() && interval == 0) top.missing({"layer_types", "full_attention_interval"});
  std::vector<std::string> regular;
  for (int64_t layer = 1; interval > 0 && layer <= layers; ++layer) {
    regular.push_back(layer % interval == 0 ? kFull : kLinear);
  }
  if (kinds.empty()) kinds = regular;
  if (interval > 0 && kinds != regular) {
    refuse("{} contradicts full_attention_interval = {}: layer {} differs", top.where("layer_types"), interval,
           std::mismatch(kinds.begin(), kinds.end(), regular.begin()).first - kinds.begin() + 1);
  }
  std::replace(kinds.begin(), kinds.end(), std::string(kLinear), std::string("gdn"));
  std::replace(kinds.begin(), kinds.end(), std::string(kFull), std::string("gated_attention"));
  return kinds;
}

void read_linear(ConfigReader& top, ConfigKeys& set, bool present) {
  const int64_t keys = top.count({"linear_num_key_heads"}, 1, kWidest);
  const int64_t values = top.count({"linear_num_value_heads"}, 1, kWidest);
  if (values % keys != 0) {
    refuse("{} = {} must be a multiple of linear_num_key_heads = {}", top.where("linear_num_value_heads"), values,
           keys);
  }
  set("heads", keys, "linear_num_key_heads");
  set("head_dim", top.count({"linear_key_head_dim"}, 1, kWidest), "linear_key_head_dim");
  const int64_t width = top.count({"linear_value_head_dim"}, 1, kWidest);
  const int64_t taps = top.count({"linear_conv_kernel_dim"}, 1, kWidest);
  if (!present) return;
  set("gdn.value_heads", values, "linear_num_value_heads");
  set("gdn.value_dim", width, "linear_value_head_dim");
  set("gdn.conv_size", taps, "linear_conv_kernel_dim");
  set("gdn.output_gate", "swish", "model_type");
  set("gdn.full_rank_gates", true, "model_type");
}

// A number in rope_parameters or, in older files, beside it.
double rope_number(ConfigReader& top, ConfigReader& rope, const std::string& name) {
  const Json inside = rope.find({name}), outside = top.find({name});
  if (!inside.is_null() && !outside.is_null() && inside != outside) {
    refuse("{} = {}, but {} = {}: two values of the same field", rope.where(name), inside.dump(), name, outside.dump());
  }
  return inside.is_null() ? top.number(name) : rope.number(name);
}

void read_rope(ConfigReader& top, ConfigKeys& set, int64_t head_dim, bool present) {
  const Json given = top.find({"rope_parameters", "rope_scaling"});
  if (!given.is_null() && !given.is_object()) refuse("{} must be an object", top.where("rope_parameters"));
  const Json fields = given.is_null() ? Json::object() : given;
  ConfigReader rope(fields, top.where("rope_parameters"));
  for (const char* name : {"rope_type", "type"}) rope.only(name, "default", "klab has the plain rotary embedding only");
  const double base = rope_number(top, rope, "rope_theta"), fraction = rope_number(top, rope, "partial_rotary_factor");
  // Which channels belong to which axis; without effect where all axes have the same position.
  rope.refuse_unknown({"mrope_section", "mrope_interleaved"});
  if (!(base > 0)) refuse("{} = {} must be positive", top.where("rope_theta"), base);
  if (!present) return;
  const auto channels = static_cast<int64_t>(static_cast<double>(head_dim) * std::clamp(fraction, 0.0, 2.0));
  if (!(fraction <= 1) || channels < 2 || channels % 2 != 0) {
    refuse("{} = {} gives {} of {} channels, but must give an even number of them", top.where("partial_rotary_factor"),
           fraction, channels, head_dim);
  }
  set("gated_attention.rope_base", base, "rope_theta");
  set("gated_attention.rope_fraction", static_cast<double>(channels) / static_cast<double>(head_dim),
      "partial_rotary_factor");
}

void read_attention(ConfigReader& top, ConfigKeys& set, bool present) {
  const int64_t heads = top.count({"num_attention_heads"}, 1, kWidest);
  const int64_t keys = top.count({"num_key_value_heads"}, 1, kWidest);
  if (heads % keys != 0) {
    refuse("{} = {} must divide num_attention_heads = {}", top.where("num_key_value_heads"), keys, heads);
  }
  const int64_t head_dim = top.count({"head_dim"}, 1, kWidest);
  top.only("attention_bias", false, "klab's projections have no bias");
  top.only("attn_output_gate", true, "full attention of this family has an output gate");
  top.only("use_sliding_window", false, "full attention of this family has no window");
  read_rope(top, set, head_dim, present);
  if (!present) return;
  set("gated_attention.heads", heads, "num_attention_heads");
  set("gated_attention.kv_heads", keys, "num_key_value_heads");
  set("gated_attention.head_dim", head_dim, "head_dim");
}

// The number of dense layers at the start; all later ones have experts.
int64_t dense_layers(ConfigReader& top, int64_t layers) {
  const int64_t step = top.count({"decoder_sparse_step"}, 1, kMostLayers, 1);
  const Json list = top.find({"mlp_only_layers"});
  if (!list.is_null() && !list.is_array()) refuse("{} must be a list of layers", top.where("mlp_only_layers"));
  std::vector<bool> dense;
  for (int64_t layer = 1; layer <= layers; ++layer) dense.push_back(layer % step != 0);
  for (const Json& item : list.is_null() ? Json::array() : list) {
    if (!item.is_number_integer() || item.get<int64_t>() < 0 || item.get<int64_t>() >= layers) {
      refuse("{}: {} is not a layer; layers are counted from 0 to {}", top.where("mlp_only_layers"), item.dump(),
             layers - 1);
    }
    dense[static_cast<size_t>(item.get<int64_t>())] = true;
  }
  const auto sparse = std::find(dense.begin(), dense.end(), false), again = std::find(sparse, dense.end(), true);
  if (again != dense.end()) {
    refuse("{}: layer {} is dense, but follows a sparse one; klab supports dense layers only at the start",
           top.where("decoder_sparse_step and mlp_only_layers"), again - dense.begin());
  }
  return sparse - dense.begin();
}

// Returns whether all layers have experts.
bool read_experts(ConfigReader& top, ConfigKeys& set, int64_t layers, const std::string& type) {
  if (type == "qwen3_5" || type == "qwen3_5_text") {
    top.only("num_experts", 0, "the model type " + type + " is dense");
    top.only("mlp_only_layers", Json::array(), "the model type " + type + " is dense");
    return false;
  }
  const bool next = type == "qwen3_next";
  if (!next) {
    top.only("decoder_sparse_step", 1, "all layers of this model type have experts");
    top.only("mlp_only_layers", Json::array(), "all layers of this model type have experts");
    top.only("norm_topk_prob", true, "weights of experts are always normalised in this model type");
  }
  const int64_t experts = top.count({"num_experts"}, next ? 0 : 1, kMostExperts);
  const int64_t dense = experts == 0 ? layers : dense_layers(top, layers);
  const auto optional = [&](int64_t value) { return experts > 0 ? std::nullopt : std::optional<int64_t>(value); };
  const int64_t chosen = top.count({"num_experts_per_tok"}, 0, std::max(experts, kMostExperts), optional(0));
  const int64_t width = top.count({"moe_intermediate_size"}, 0, kWidest, optional(0));
  const int64_t shared = top.count({"shared_expert_intermediate_size"}, 0, kWidest, optional(0));
  const bool renormalise = top.flag({"norm_topk_prob"}, true);
  for (const char* name : {"decoder_sparse_step", "mlp_only_layers"}) top.find({name});
  if (dense == layers) return false;
  if (chosen < 1 || chosen > experts) {
    refuse("{} = {} must lie in 1..{}, the number of experts", top.where("num_experts_per_tok"), chosen, experts);
  }
  for (const auto& [name, value] :
       {std::pair{"moe_intermediate_size", width}, {"shared_expert_intermediate_size", shared}}) {
    if (value < 1) refuse("{} = {} must be positive", top.where(name), value);
  }
  set("first_dense", dense, "mlp_only_layers");
  set("moe.experts", experts, "num_experts");
  set("moe.experts_per_token", chosen, "num_experts_per_tok");
  set("moe.expert_width", width, "moe_intermediate_size");
  set("moe.shared_width", shared, "shared_expert_intermediate_size");
  set("moe.renormalise", renormalise, "norm_topk_prob");
  set("moe.router", "softmax", "model_type");
  set("moe.shared_gate", true, "model_type");
  set("moe.scaling", 1, "model_type");
  return dense == 0;
}

// --- Tensors -------------------------------------------------------------------------------------------------------

bool has_experts(const ModelConfig& config) { return config.moe.experts > 0 && config.first_dense < config.layers; }

// Whether only Qwen3-Next has such a model.
bool is_next(const ModelConfig& config) {
  return has_experts(config) && (config.first_dense > 0 || !config.moe.renormalise);
}

struct Name {
  const char *ours, *published;
  double offset = 0;
};

constexpr Name kWhole[] = {{"embedding", "model.embed_tokens.weight"},
                           {"norm.weight", "model.norm.weight", 1},
                           {"lm_head.weight", "lm_head.weight"}};

constexpr Name kOfLayer[] = {{"mixer_norm.weight", "input_layernorm.weight", 1},
                             {"mlp_norm.weight", "post_attention_layernorm.weight", 1},
                             {"mlp.gate_proj.weight", "mlp.gate_proj.weight"},
                             {"mlp.up_proj.weight", "mlp.up_proj.weight"},
                             {"mlp.down_proj.weight", "mlp.down_proj.weight"},
                             {"mlp.router.weight", "mlp.gate.weight"},
                             {"mlp.shared.gate_proj.weight", "mlp.shared_expert.gate_proj.weight"},
                             {"mlp.shared.up_proj.weight", "mlp.shared_expert.up_proj.weight"},
                             {"mlp.shared.down_proj.weight", "mlp.shared_expert.down_proj.weight"},
                             {"mlp.shared_gate.weight", "mlp.shared_expert_gate.weight"}};

constexpr Name kOfAttention[] = {
    {"mixer.q_proj.weight", "self_attn.q_proj.weight"},    {"mixer.k_proj.weight", "self_attn.k_proj.weight"},
    {"mixer.v_proj.weight", "self_attn.v_proj.weight"},    {"mixer.o_proj.weight", "self_attn.o_proj.weight"},
    {"mixer.q_norm.weight", "self_attn.q_norm.weight", 1}, {"mixer.k_norm.weight", "self_attn.k_norm.weight", 1}};

constexpr Name kOfLinear[] = {{"mixer.A_log", "linear_attn.A_log"},
                              {"mixer.dt_bias", "linear_attn.dt_bias"},
                              {"mixer.o_norm", "linear_attn.norm.weight"},
                              {"mixer.o_proj.weight", "linear_attn.out_proj.weight"}};

// Heads and widths of Gated DeltaNet.
struct LinearShape {
  int64_t keys, key_dim, values, value_dim;
  int64_t shared() const { return values / keys; }  // value heads of a key head
};

LinearShape linear_shape(const ModelConfig& config) {
  const auto option = [&](const char* name, int64_t otherwise) {
    const auto value = option_of(config, std::string("gdn.") + name).get<int64_t>();
    return value > 0 ? value : otherwise;
  };
  return {config.heads, option("key_dim", config.head_dim), option("value_heads", config.heads),
          option("value_dim", config.head_dim)};
}

// `rows` rows at `begin` in each of `heads` blocks of `block` rows.
std::vector<RowRange> by_head(int64_t heads, int64_t block, int64_t begin, int64_t rows) {
  std::vector<RowRange> all;
  for (int64_t head = 0; head < heads; ++head) all.push_back({head * block + begin, rows});
  return all;
}

// The locations of a projection or convolution of Gated DeltaNet: as in Qwen3.5, then as in Qwen3-Next.
std::vector<TensorPlace> linear_places(const ModelConfig& config, const std::string& ours,
                                       const std::vector<int64_t>& shape) {
  const LinearShape s = linear_shape(config);
  const int64_t keys = s.keys * s.key_dim, rows = shape[0], K = s.key_dim, V = s.shared() * s.value_dim;
  const std::string name = ours.substr(std::string("mixer.").size());
  const auto in_qkv = [&](char which) { return which == 'q' ? 0 : which == 'k' ? keys : 2 * keys; };
  if (name.ends_with("_conv.weight")) {
    return {{"linear_attn.conv1d.weight", {rows, 1, shape[1]}, -1, {{in_qkv(name[0]), rows}}}};
  }
  const std::string both = "linear_attn.in_proj_qkvz.weight", gates = "linear_attn.in_proj_ba.weight";
  const auto qkvz = [&](int64_t begin, int64_t count) { return by_head(s.keys, 2 * K + 2 * V, begin, count); };
  if (name == "q_proj.weight" || name == "k_proj.weight" || name == "v_proj.weight") {
    const auto ranges = name[0] == 'q' ? qkvz(0, K) : name[0] == 'k' ? qkvz(K, K) : qkvz(2 * K, V);
    return {{"linear_attn.in_proj_qkv.weight", shape, -1, {{in_qkv(name[0]), rows}}}, {both, shape, -1, ranges}};
  }
  if (name == "g_proj.weight") {
    return {{"linear_attn.in_proj_z.weight", shape}, {both, shape, -1, qkvz(2 * K + V, V)}};
  }
  if (name == "b_proj.weight" || name == "a_proj.weight") {
    const int64_t begin = name[0] == 'b' ? 0 : s.shared();
    return {{"linear_attn.in_proj_" + name.substr(0, 1) + ".weight", shape},
            {gates, shape, -1, by_head(s.keys, 2 * s.shared(), begin, s.shared())}};
  }
  return {};
}

// "mlp.expert5.up_proj.weight".
std::vector<TensorPlace> expert_places(const std::string& ours, const std::vector<int64_t>& shape) {
  const size_t begin = std::string("mlp.expert").size(), dot = ours.find('.', begin);
  const std::string number = ours.substr(begin, dot - begin), which = ours.substr(dot + 1);
  const TensorPlace alone{"mlp.experts." + number + "." + which, shape};
  const int64_t expert = std::stoll(number), rows = shape[0];
  if (which == "down_proj.weight") return {alone, {"mlp.experts.down_proj", shape, expert}};
  return {alone, {"mlp.experts.gate_up_proj", shape, expert, {{which == "gate_proj.weight" ? 0 : rows, rows}}}};
}

// Without "model.layers.N."; empty for a parameter without a name.
std::vector<TensorPlace> layer_places(const ModelConfig& config, int64_t layer, const std::string& ours,
                                      const std::vector<int64_t>& shape) {
  const auto in = [&](const auto& names) -> std::vector<TensorPlace> {
    for (const Name& name : names) {
      if (ours == name.ours) return {{.name = name.published, .shape = shape, .offset = name.offset}};
    }
    return {};
  };
  if (ours.starts_with("mlp.expert")) return expert_places(ours, shape);
  if (!ours.starts_with("mixer.")) return in(kOfLayer);
  if (config.layer_mixers().at(static_cast<size_t>(layer)) == "gated_attention") return in(kOfAttention);
  std::vector<TensorPlace> places = in(kOfLinear);
  if (places.empty()) places = linear_places(config, ours, shape);
  if (is_next(config)) std::reverse(places.begin(), places.end());
  return places;
}

// --- Writing the config --------------------------------------------------------------------------------------------

void add_linear(Json& json, const ModelConfig& config, const Decoder& model) {
  const TokenMixer* mixer = first_mixer(config, model, "gdn");
  const LinearShape shape = mixer == nullptr ? LinearShape{config.heads, config.head_dim, config.heads, config.head_dim}
                                             : linear_shape(config);
  json["linear_num_key_heads"] = shape.keys;
  json["linear_num_value_heads"] = shape.values;
  json["linear_key_head_dim"] = shape.key_dim;
  json["linear_value_head_dim"] = shape.value_dim;
  json["linear_conv_kernel_dim"] = mixer == nullptr ? 4 : weight_of(*mixer, "q_conv").size(1);
}

void add_attention(Json& json, const ModelConfig& config, const Decoder& model) {
  const bool present = first_mixer(config, model, "gated_attention") != nullptr;
  const auto option = [&](const char* name, int64_t otherwise) {
    const int64_t value =
        present ? option_of(config, std::string("gated_attention.") + name).get<int64_t>() : int64_t{0};
    return value > 0 ? value : otherwise;
  };
  const int64_t heads = option("heads", config.heads), head_dim = option("head_dim", config.head_dim);
  double base = 10000, fraction = 0.25;
  if (present) {
    base = option_of(config, "gated_attention.rope_base").get<double>();
    const auto width = static_cast<double>(head_dim);
    const auto channels = std::lround(option_of(config, "gated_attention.rope_fraction").get<double>() * width) / 2 * 2;
    if (channels == 0) refuse("model.gated_attention.rope_fraction: the public layout rotates at least two channels");
    fraction = static_cast<double>(channels) / width;
    if (fraction * width < static_cast<double>(channels)) fraction = std::nextafter(fraction, 2.0);  // readers truncate
  }
  json["num_attention_heads"] = heads;
  json["num_key_value_heads"] = option("kv_heads", heads);
  json["head_dim"] = head_dim;
  json["attention_bias"] = false;
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", base}, {"partial_rotary_factor", fraction}};
}

void add_feed_forward(Json& json, const ModelConfig& config, const Decoder& model) {
  const FeedForward &first = *model->layers().front()->feed_forward(), &last = *model->layers().back()->feed_forward();
  const bool dense = !has_experts(config) || config.first_dense > 0;
  if (dense) json["intermediate_size"] = weight_of(first, "gate_proj").size(0);
  if (!has_experts(config)) return;
  json["num_experts"] = config.moe.experts;
  json["num_experts_per_tok"] = config.moe.experts_per_token;
  json["moe_intermediate_size"] = weight_of(last, "expert0.gate_proj").size(0);
  json["shared_expert_intermediate_size"] = weight_of(last, "shared.gate_proj").size(0);
  if (!is_next(config)) return;
  if (!dense) json["intermediate_size"] = json["moe_intermediate_size"];  // unused
  std::vector<int64_t> without;
  for (int64_t layer = 0; layer < config.first_dense; ++layer) without.push_back(layer);
  json["mlp_only_layers"] = without;
  json["decoder_sparse_step"] = 1;
  json["norm_topk_prob"] = config.moe.renormalise;
}

}  // namespace

bool Qwen::reads(const Json& json) const {
  const Json type = json.value("model_type", Json());
  return type == "qwen3_next" || type == "qwen3_5" || type == "qwen3_5_text" || type == "qwen3_5_moe" ||
         type == "qwen3_5_moe_text";
}

PublicConfig Qwen::read(const Json& json, const std::string& origin) const {
  const Json text = text_config(json, origin, kOuter);
  ConfigReader top(text, text_origin(json, origin));
  const Json own = top.find({"model_type"});
  const auto type = (own.is_string() ? own : json["model_type"]).get<std::string>();
  if (!reads({{"model_type", type}})) refuse("{} = {} is not supported", top.where("model_type"), own.dump());
  top.refuse_quantised();
  top.check_architectures({"Qwen3Next", "Qwen3_5"});
  ConfigKeys set{text_origin(json, origin)};
  const int64_t layers = top.count({"num_hidden_layers"}, 1, kMostLayers);
  const std::vector<std::string> kinds = layer_mixers(top, layers);
  const auto has = [&](const char* kind) { return std::find(kinds.begin(), kinds.end(), kind) != kinds.end(); };
  set("pattern", compact_pattern(kinds), "layer_types");
  set("layers", layers, "num_hidden_layers");
  set("width", top.count({"hidden_size"}, 1, kWidest), "hidden_size");
  set("vocab", top.count({"vocab_size"}, 1, kWidest), "vocab_size");
  const double eps = top.number("rms_norm_eps");
  if (!(eps > 0)) refuse("{} = {} must be positive", top.where("rms_norm_eps"), eps);
  set("norm_eps", eps, "rms_norm_eps");
  read_linear(top, set, has("gdn"));
  read_attention(top, set, has("gated_attention"));
  const bool all_sparse = read_experts(top, set, layers, type);
  const int64_t dense_width =
      top.count({"intermediate_size"}, 1, kWidest, all_sparse ? std::optional<int64_t>(0) : std::nullopt);
  if (dense_width > 0) set("mlp_width", dense_width, "intermediate_size");
  top.only("hidden_act", "silu", "the feed-forward layers of this family are SwiGLU");
  set("tie_embeddings", top.flag({"tie_word_embeddings"}, false), "tie_word_embeddings");
  const PublicTokens tokens = top.tokens();
  top.refuse_unknown(kIgnored);
  return {std::move(set.all), tokens, this};
}

bool Qwen::writes(const ModelConfig& config) const { return has_only(config, {"gdn", "gated_attention"}); }

std::set<std::string> Qwen::expressed() const {
  return {"layers",
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
          "tie_embeddings",
          "moe.experts",
          "moe.experts_per_token",
          "moe.expert_width",
          "moe.shared_width",
          "moe.renormalise",
          "moe.bias_update",
          "gdn.key_dim",
          "gdn.value_heads",
          "gdn.value_dim",
          "gdn.conv_size",
          "gated_attention.heads",
          "gated_attention.head_dim",
          "gated_attention.kv_heads",
          "gated_attention.rope_base",
          "gated_attention.rope_fraction"};
}

std::vector<Assignment> Qwen::implied(const ModelConfig& config) const {
  std::vector<Assignment> all = {{"gdn.output_gate", "swish", ""}, {"gdn.full_rank_gates", true, ""}};
  if (!has_experts(config)) return all;
  all.insert(all.end(), {{"moe.router", "softmax", ""}, {"moe.shared_gate", true, ""}, {"moe.scaling", 1.0, ""}});
  return all;
}

Qwen::Json Qwen::fields(const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
                        const std::string& dtype) const {
  const std::string type = is_next(config) ? "qwen3_next" : has_experts(config) ? "qwen3_5_moe_text" : "qwen3_5_text";
  const std::string architecture = is_next(config)       ? "Qwen3NextForCausalLM"
                                   : has_experts(config) ? "Qwen3_5MoeForCausalLM"
                                                         : "Qwen3_5ForCausalLM";
  std::vector<std::string> kinds = config.layer_mixers();
  std::replace(kinds.begin(), kinds.end(), std::string("gdn"), std::string(kLinear));
  std::replace(kinds.begin(), kinds.end(), std::string("gated_attention"), std::string(kFull));
  Json json = {{"architectures", {architecture}}, {"model_type", type}, {"dtype", dtype}};
  json["hidden_size"] = config.width;
  json["num_hidden_layers"] = config.layers;
  json["layer_types"] = kinds;
  json["vocab_size"] = model->vocabulary();
  json["rms_norm_eps"] = config.norm_eps;
  json["hidden_act"] = "silu";
  json["tie_word_embeddings"] = config.tie_embeddings;
  add_linear(json, config, model);
  add_attention(json, config, model);
  add_feed_forward(json, config, model);
  add_tokens(json, tokens);
  json["initializer_range"] = 0.02;
  json["use_cache"] = true;
  return json;
}

std::vector<TensorPlace> Qwen::places(const ModelConfig& config, const std::string& parameter,
                                      const std::vector<int64_t>& shape) const {
  for (const Name& whole : kWhole) {
    if (parameter == whole.ours) return {{.name = whole.published, .shape = shape, .offset = whole.offset}};
  }
  const size_t dot = parameter.find('.');
  std::vector<TensorPlace> places;
  if (parameter.starts_with("layer") && dot != std::string::npos) {
    const std::string number = parameter.substr(5, dot - 5);
    places = layer_places(config, std::stoll(number), parameter.substr(dot + 1), shape);
    for (TensorPlace& place : places) place.name = "model.layers." + number + "." + place.name;
  }
  if (places.empty()) fail("the public layout of {} has no name for the parameter '{}'", name(), parameter);
  return places;
}

bool Qwen::passes_over(const std::string& tensor) const {
  return tensor.starts_with("mtp.") || tensor.starts_with("model.visual.") || tensor.starts_with("visual.") ||
         tensor.ends_with("rotary_emb.inv_freq");
}

}  // namespace klab
