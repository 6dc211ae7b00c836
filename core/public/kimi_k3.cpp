// SPDX-License-Identifier: Apache-2.0
#include "core/public/kimi_k3.h"

#include <algorithm>

#include "core/base/error.h"

namespace klab {
namespace {

using Json = nlohmann::ordered_json;

// Fields of the multimodal model beside the text model and the tokens.
const std::set<std::string> kOuter = {"architectures",
                                      "auto_map",
                                      "dtype",
                                      "ignore_index",
                                      "image_token_id",
                                      "media_placeholder_token_id",
                                      "model_type",
                                      "torch_dtype",
                                      "transformers_version",
                                      "use_unified_vision_chunk",
                                      "video_placeholder",
                                      "vision_config"};

struct Name {
  const char *ours, *published;
};

constexpr Name kOfLayer[] = {{"mixer.g_proj.weight", "self_attn.g_proj.weight"},
                             {"mixer_residual.norm.weight", "self_attention_res_norm.weight"},
                             {"mixer_residual.query", "self_attention_res_proj.weight"},
                             {"mlp_residual.norm.weight", "mlp_res_norm.weight"},
                             {"mlp_residual.query", "mlp_res_proj.weight"},
                             {"mlp.latent_norm.weight", "block_sparse_moe.routed_expert_norm.weight"}};

// In layers with experts; dense layers have parameters of the same names.
constexpr Name kOfLatent[] = {{"mlp.down_proj.weight", "block_sparse_moe.routed_expert_down_proj.weight"},
                              {"mlp.up_proj.weight", "block_sparse_moe.routed_expert_up_proj.weight"}};

// The published name of a parameter that Kimi Linear does not have, or "".
std::string published(const ModelConfig& config, const std::string& parameter) {
  if (parameter == "output_residual.norm.weight") return "model.output_attn_res_norm.weight";
  if (parameter == "output_residual.query") return "model.output_attn_res_proj.weight";
  const size_t dot = parameter.find('.');
  if (parameter.rfind("layer", 0) != 0 || dot == std::string::npos) return "";
  const std::string layer = parameter.substr(5, dot - 5), ours = parameter.substr(dot + 1);
  const bool sparse = config.moe.experts > 0 && std::stoll(layer) >= config.first_dense;
  for (const Name& name : kOfLayer) {
    if (ours == name.ours) return "model.layers." + layer + "." + name.published;
  }
  for (const Name& name : kOfLatent) {
    if (sparse && ours == name.ours) return "model.layers." + layer + "." + name.published;
  }
  return "";
}

void read_activation(ConfigReader& top, ConfigKeys& set) {
  const Json name = top.find({"hidden_act"});
  if (!name.is_null() && name != "silu" && name != "situ") {
    refuse("{} = {} must be \"silu\" or \"situ\"", top.where("hidden_act"), name.dump());
  }
  if (name != "situ") {
    top.find({"activation_situ_beta"});
    top.find({"activation_situ_linear_beta"});
    return;
  }
  set("activation", "situ", "hidden_act");
  for (const auto& [field, key] :
       {std::pair{"activation_situ_beta", "situ_beta"}, {"activation_situ_linear_beta", "situ_linear_beta"}}) {
    const double beta = top.number(field);
    if (!(beta > 0)) refuse("{} = {} must be positive", top.where(field), beta);
    set(key, beta, field);
  }
}

void read_latent_experts(ConfigReader& top, ConfigKeys& set) {
  const int64_t width = top.count({"routed_expert_hidden_size"}, 1, kWidest, 0);
  const bool given = !top.find({"latent_moe_use_norm"}).is_null(), normed = top.flag({"latent_moe_use_norm"}, false);
  if (width == 0) return;
  if (!given) top.missing({"latent_moe_use_norm"});
  set("moe.latent_width", width, "routed_expert_hidden_size");
  set("moe.latent_norm", normed, "latent_moe_use_norm");
}

}  // namespace

bool KimiK3::reads(const Json& json) const {
  const Json type = json.value("model_type", Json());
  if (type == "kimi_k3") return true;
  if (!KimiLinear::reads(json)) return false;
  const Json linear = json.value("linear_attn_config", Json());
  const auto has = [](const Json& object, const char* name) {
    return object.is_object() && object.contains(name) && !object[name].is_null();
  };
  return has(json, "attn_res_block_size") || has(json, "routed_expert_hidden_size") ||
         has(json, "mla_use_output_gate") || has(linear, "use_full_rank_gate") || has(linear, "gate_lower_bound");
}

PublicConfig KimiK3::read(const Json& json, const std::string& origin) const {
  return KimiLinear::read(text_config(json, origin, kOuter), text_origin(json, origin));
}

std::string KimiK3::attention(const Json& text) const {
  return text.value("mla_use_output_gate", Json()) == true ? "gated_mla" : "mla";
}

void KimiK3::read_more(ConfigReader& top, ConfigReader& linear, bool has_kda, ConfigKeys& set) const {
  top.flag({"mla_use_output_gate"}, false);
  top.only("mla_use_rope", false, "latent attention of Kimi K3 has no position encoding");
  top.only("topk_method", "noaux_tc", "experts are chosen by their scores and a correction bias");
  read_activation(top, set);
  read_latent_experts(top, set);
  set("attention_residuals", top.count({"attn_res_block_size"}, 1, kMostLayers, 0), "attn_res_block_size");
  const bool full_rank = linear.flag({"use_full_rank_gate"}, false);
  const double bound = linear.number("gate_lower_bound", 0);
  if (bound != 0 && !(bound >= -5 && bound < 0)) {
    refuse("{} = {} must lie in [-5, 0)", linear.where("gate_lower_bound"), bound);
  }
  if (!has_kda) return;
  set("kda.full_rank_gates", full_rank, "use_full_rank_gate");
  set("kda.decay_rank", "low", "use_full_rank_gate");
  set("kda.lower_bound", bound, "gate_lower_bound");
}

bool KimiK3::writes(const ModelConfig& config) const {
  if (!has_only(config, {"kda", "mla"}) && !has_only(config, {"kda", "gated_mla"})) return false;
  return !has_only(config, {"kda", "mla"}) || config.attention_residuals > 0 || config.moe.latent_width > 0 ||
         config.activation.name == "situ";
}

std::set<std::string> KimiK3::expressed() const {
  std::set<std::string> keys = KimiLinear::expressed();
  keys.insert({"activation", "situ_beta", "situ_linear_beta", "attention_residuals", "moe.latent_width",
               "moe.latent_norm", "kda.full_rank_gates", "kda.lower_bound"});
  return keys;
}

std::vector<Assignment> KimiK3::implied(const ModelConfig&) const { return {{"kda.decay_rank", "low", ""}}; }

KimiK3::Json KimiK3::fields(const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
                            const std::string& dtype) const {
  if (config.activation.name != "silu" && config.activation.name != "situ") {
    refuse("model.activation = {}: the public layout of {} has silu and situ only", config.activation.name, name());
  }
  Json json = KimiLinear::fields(config, model, tokens, dtype);
  json["hidden_act"] = config.activation.name;
  json["activation_situ_beta"] = config.activation.situ_beta;
  json["activation_situ_linear_beta"] = config.activation.situ_linear_beta;
  json["mla_use_output_gate"] = has_only(config, {"kda", "gated_mla"});
  json["attn_res_block_size"] = config.attention_residuals > 0 ? Json(config.attention_residuals) : Json();
  json["routed_expert_hidden_size"] = config.moe.latent_width > 0 ? Json(config.moe.latent_width) : Json();
  json["latent_moe_use_norm"] = config.moe.latent_norm;
  const bool has_kda = first_mixer(config, model, "kda") != nullptr;
  json["linear_attn_config"]["use_full_rank_gate"] = has_kda && option_of(config, "kda.full_rank_gates").get<bool>();
  const double bound = has_kda ? option_of(config, "kda.lower_bound").get<double>() : 0;
  json["linear_attn_config"]["gate_lower_bound"] = bound != 0 ? Json(bound) : Json();
  return json;
}

std::vector<TensorPlace> KimiK3::places(const ModelConfig& config, const std::string& parameter,
                                        const std::vector<int64_t>& shape) const {
  if (const std::string own = published(config, parameter); !own.empty()) {
    const bool row = own.find("_res_proj.") != std::string::npos;  // the query, a projection to one number
    return {{own, row ? std::vector<int64_t>{1, shape[0]} : shape}};
  }
  std::vector<TensorPlace> all = KimiLinear::places(config, parameter, shape);
  if (!parameter.ends_with(".A_log")) return all;
  for (TensorPlace& place : all) {
    place.padded = std::max(config.head_dim, shape[0]);
    place.shape = {place.padded};
  }
  return all;
}

// The first layer reads the embedding, but the layout has tensors of its attention residual.
std::vector<SpareTensor> KimiK3::spare(const ModelConfig& config) const {
  std::vector<SpareTensor> all = KimiLinear::spare(config);
  if (config.attention_residuals == 0) return all;
  all.push_back({"model.layers.0.self_attention_res_norm.weight", {config.width}, 1});
  all.push_back({"model.layers.0.self_attention_res_proj.weight", {1, config.width}, 0});
  return all;
}

bool KimiK3::passes_over(const std::string& tensor) const {
  return tensor.starts_with("vision_tower.") || tensor.starts_with("mm_projector.") || KimiLinear::passes_over(tensor);
}

}  // namespace klab
