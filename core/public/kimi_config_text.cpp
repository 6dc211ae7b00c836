// SPDX-License-Identifier: Apache-2.0
// Writing a public config.
#include <fmt/format.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/error.h"
#include "core/public/kimi_config.h"

namespace klab {
namespace {

using Json = nlohmann::ordered_json;

// Keys that the text expresses in some form, or that only training needs.
bool is_expressed(const std::string& key) {
  static const std::set<std::string> keys = {"layers",
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
                                             "moe.experts",
                                             "mla.heads",
                                             "mla.nope_dim",
                                             "mla.rope_dim",
                                             "mla.value_dim",
                                             "mla.kv_lora_rank",
                                             "moe.groups",
                                             "mla.q_lora_rank",
                                             "moe.scaling",
                                             "kda.conv_size",
                                             "moe.bias_update",
                                             "moe.experts_per_token",
                                             "moe.expert_width",
                                             "moe.shared_experts",
                                             "moe.groups_per_token",
                                             "moe.renormalise"};
  return keys.count(key) != 0;
}

// Options without a field in the layout must have klab's defaults, which are those of the public layers.
void check_expressible(const ModelConfig& config) {
  const std::vector<std::string> kinds = config.layer_mixers();
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i] != "kda" && kinds[i] != "mla") {
      refuse("model.pattern: layer {} is '{}', but the public layout of Kimi Linear has kda and mla only", i, kinds[i]);
    }
  }
  ModelConfig plain(config.registry());
  plain.pattern = config.pattern;
  plain.last_layer = config.last_layer;
  const auto given = values_of(config), usual = values_of(plain);
  for (size_t i = 0; i < given.size(); ++i) {
    const auto& [key, value] = given[i];
    if (!is_expressed(key) && value != usual.at(i).second) {
      refuse("model.{} = {}: the public layout of Kimi Linear cannot express it; it implies {}", key, text_of(value),
             text_of(usual.at(i).second));
    }
  }
}

// The weight of a projection of `module`, or an undefined tensor.
torch::Tensor weight(const torch::nn::Module& module, const std::string& name) {
  const auto* found = module.named_parameters().find(name + ".weight");
  return found == nullptr ? torch::Tensor() : *found;
}

// The first mixer of a kind, or null.
const TokenMixer* first_mixer(const ModelConfig& config, const Decoder& model, const std::string& kind) {
  const std::vector<std::string> kinds = config.layer_mixers();
  const auto found = std::find(kinds.begin(), kinds.end(), kind);
  return found == kinds.end() ? nullptr : model->layers().at(static_cast<size_t>(found - kinds.begin()))->mixer().get();
}

int64_t mla_heads(const ModelConfig& config) {
  const Fields fields = Fields::of(config);
  const Field* heads = fields.find("mla.heads");
  return heads == nullptr || heads->get() == 0 ? config.heads : heads->get().get<int64_t>();
}

// Widths are read from the weights. Without MLA layers the fields get plausible values.
void add_attention(Json& json, const ModelConfig& config, const Decoder& model) {
  int64_t heads = config.heads, nope = config.head_dim, rope = 0, value = nope, latent = 4 * nope, rank = 0;
  if (const TokenMixer* mla = first_mixer(config, model, "mla")) {
    heads = mla_heads(config);
    latent = weight(*mla, "kv_b_proj").size(1);
    rope = weight(*mla, "kv_a_proj").size(0) - latent;
    value = weight(*mla, "o_proj").size(1) / heads;
    nope = weight(*mla, "kv_b_proj").size(0) / heads - value;
    if (const torch::Tensor down = weight(*mla, "q_a_proj"); down.defined()) rank = down.size(0);
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
                                {"short_conv_kernel_size", mixer == nullptr ? 4 : weight(*mixer, "q_conv").size(1)},
                                {"full_attn_layers", full},
                                {"kda_layers", kda}};
}

void add_feed_forward(Json& json, const ModelConfig& config, const Decoder& model) {
  const int64_t dense = config.moe.experts == 0 ? config.layers : std::min(config.first_dense, config.layers);
  const FeedForward &first = *model->layers().front()->feed_forward(), &last = *model->layers().back()->feed_forward();
  const bool sparse = dense < config.layers;
  const int64_t expert = sparse ? weight(last, "expert0.gate_proj").size(0) : 0;
  json["intermediate_size"] = dense > 0 ? weight(first, "gate_proj").size(0) : expert;
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

Json token(const std::optional<int64_t>& id) { return id ? Json(*id) : Json(); }

}  // namespace

std::string public_config_text(const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
                               const std::string& dtype) {
  check_expressible(config);
  Json json = {{"architectures", {"KimiLinearForCausalLM"}}, {"model_type", "kimi_linear"}, {"dtype", dtype}};
  json["hidden_size"] = config.width;
  json["num_hidden_layers"] = config.layers;
  json["vocab_size"] = weight(*model, "lm_head").size(0);
  json["rms_norm_eps"] = config.norm_eps;
  json["hidden_act"] = "silu";
  json["tie_word_embeddings"] = false;
  add_attention(json, config, model);
  add_linear_attention(json, config, model);
  add_feed_forward(json, config, model);
  json["num_nextn_predict_layers"] = 0;
  json["bos_token_id"] = token(tokens.begin);
  json["eos_token_id"] = tokens.stop.empty()       ? Json()
                         : tokens.stop.size() == 1 ? Json(tokens.stop.front())
                                                   : Json(tokens.stop);
  json["pad_token_id"] = token(tokens.padding);
  json["initializer_range"] = 0.02;
  json["use_cache"] = true;
  return json.dump(2) + "\n";
}

}  // namespace klab
