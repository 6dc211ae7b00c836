// SPDX-License-Identifier: Apache-2.0
#include "core/public/kimi_layout.h"

#include <algorithm>

#include "core/base/error.h"

namespace klab {
namespace {

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
    return {"self_attn.conv1d.weight", -1, which * rows, rows};
  }
  for (const char* name : {"f_a_proj.weight", "f_b_proj.weight", "A_log", "dt_bias"}) {
    if (ours == std::string("mixer.") + name) return {std::string("self_attn.forget_gate.") + name};
  }
  if (starts_with(ours, "mlp.expert")) {
    const size_t dot = ours.find('.', 10);
    const int64_t expert = std::stoll(ours.substr(10, dot - 10));
    const std::string which = ours.substr(dot + 1);
    if (which == "down_proj.weight") return {"mlp.experts.down_proj", expert};
    return {"mlp.experts.gate_up_proj", expert, which == "gate_proj.weight" ? 0 : rows, rows};
  }
  const std::string name = published(ours);
  // Dense layers: files written by transformers use the name of layers with experts.
  if (starts_with(name, "mlp.")) return {"block_sparse_moe." + name.substr(std::string("mlp.").size())};
  if (starts_with(name, "block_sparse_moe.")) return {"mlp." + name.substr(std::string("block_sparse_moe.").size())};
  return {};
}

std::vector<int64_t> without_ones(std::vector<int64_t> shape) {
  shape.erase(std::remove(shape.begin(), shape.end(), 1), shape.end());
  return shape;
}

}  // namespace

std::vector<TensorPlace> public_places(const std::string& parameter, const std::vector<int64_t>& shape) {
  for (const Name& name : kWhole) {
    if (parameter == name.ours) return {{name.published}};
  }
  const size_t dot = parameter.find('.');
  const std::string ours = dot == std::string::npos ? "" : parameter.substr(dot + 1);
  if (!starts_with(parameter, "layer") || published(ours).empty()) {
    fail("the public layout of Kimi Linear has no name for the parameter '{}'", parameter);
  }
  const std::string layer = "model.layers." + parameter.substr(5, dot - 5) + ".";
  std::vector<TensorPlace> places = {{layer + published(ours)}};
  TensorPlace other = in_memory(ours, shape);
  if (other.name.empty()) return places;
  other.name = layer + other.name;
  places.push_back(other);
  return places;
}

std::vector<int64_t> public_shape(const std::string& parameter, const std::vector<int64_t>& shape) {
  if (ends_with(parameter, "_conv.weight")) return {shape[0], 1, shape[1]};
  if (ends_with(parameter, ".A_log")) return {1, 1, shape[0], 1};
  return shape;
}

bool same_shape(const std::string& parameter, const std::vector<int64_t>& shape, const std::vector<int64_t>& found,
                int64_t heads) {
  const std::vector<int64_t> expected = without_ones(shape), given = without_ones(found);
  if (expected == given) return true;
  return ends_with(parameter, ".dt_bias") && found.size() == 2 && found[0] == heads && found[0] * found[1] == shape[0];
}

bool is_passed_over(const std::string& tensor) {
  return starts_with(tensor, "model.mtp") || ends_with(tensor, "rotary_emb.inv_freq");
}

}  // namespace klab
