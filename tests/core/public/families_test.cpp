// SPDX-License-Identifier: Apache-2.0
// Configs and tensors of Qwen3-Next, Qwen3.5 and Kimi K3; those of Kimi Linear are in the other files.
#include "core/public/family.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "core/base/support.h"
#include "core/io/weight_files.h"
#include "core/public/checkpoint.h"
#include "mixers/registry.h"

namespace klab {
namespace {

using Json = nlohmann::ordered_json;
using torch::Tensor;
using Change = std::function<void(Json&)>;

Json qwen_next() {
  return {{"model_type", "qwen3_next"},
          {"hidden_size", 24},
          {"num_hidden_layers", 3},
          {"vocab_size", 40},
          {"rms_norm_eps", 1e-6},
          {"layer_types", {"linear_attention", "full_attention", "linear_attention"}},
          {"num_attention_heads", 6},
          {"num_key_value_heads", 2},
          {"head_dim", 8},
          {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5000.0}, {"partial_rotary_factor", 0.5}}},
          {"linear_num_key_heads", 2},
          {"linear_num_value_heads", 6},
          {"linear_key_head_dim", 10},
          {"linear_value_head_dim", 7},
          {"linear_conv_kernel_dim", 3},
          {"intermediate_size", 30},
          {"moe_intermediate_size", 12},
          {"shared_expert_intermediate_size", 20},
          {"num_experts", 5},
          {"num_experts_per_tok", 2},
          {"norm_topk_prob", true},
          {"mlp_only_layers", {0}},
          {"tie_word_embeddings", false},
          {"eos_token_id", 7}};
}

Json qwen_dense() {
  Json json = qwen_next();
  json["model_type"] = "qwen3_5_text";
  json["tie_word_embeddings"] = true;
  for (const char* name : {"moe_intermediate_size", "shared_expert_intermediate_size", "num_experts",
                           "num_experts_per_tok", "norm_topk_prob", "mlp_only_layers"}) {
    json.erase(name);
  }
  return json;
}

Json qwen_experts() {
  Json json = qwen_next();
  json["model_type"] = "qwen3_5_moe_text";
  for (const char* name : {"intermediate_size", "norm_topk_prob", "mlp_only_layers"}) json.erase(name);
  return json;
}

Json kimi_k3() {
  return {{"model_type", "kimi_linear"},
          {"hidden_size", 24},
          {"num_hidden_layers", 5},
          {"vocab_size", 40},
          {"rms_norm_eps", 1e-5},
          {"num_attention_heads", 3},
          {"q_lora_rank", 14},
          {"kv_lora_rank", 10},
          {"qk_nope_head_dim", 6},
          {"qk_rope_head_dim", 4},
          {"v_head_dim", 9},
          {"mla_use_nope", true},
          {"mla_use_output_gate", true},
          {"intermediate_size", 30},
          {"moe_intermediate_size", 12},
          {"num_experts", 5},
          {"num_experts_per_token", 2},
          {"num_shared_experts", 2},
          {"first_k_dense_replace", 1},
          {"routed_scaling_factor", 1.5},
          {"routed_expert_hidden_size", 11},
          {"latent_moe_use_norm", true},
          {"hidden_act", "situ"},
          {"activation_situ_beta", 4.0},
          {"activation_situ_linear_beta", 25.0},
          {"attn_res_block_size", 2},
          {"eos_token_id", 7},
          {"linear_attn_config",
           {{"head_dim", 8},
            {"num_heads", 3},
            {"short_conv_kernel_size", 3},
            {"use_full_rank_gate", true},
            {"gate_lower_bound", -5.0},
            {"full_attn_layers", {4, 5}},
            {"kda_layers", {1, 2, 3}}}}};
}

struct Example {
  std::string name;
  Json (*make)();
};

const std::vector<Example>& examples() {
  static const std::vector<Example> all = {
      {"qwen_next", qwen_next}, {"qwen_dense", qwen_dense}, {"qwen_experts", qwen_experts}, {"kimi_k3", kimi_k3}};
  return all;
}

ModelConfig model_of(const Json& json) {
  return model_config(parse_public_config(json.dump(), "config.json"), mixers());
}

std::string keys_of(ModelConfig config) { return to_yaml(config); }

Decoder drawn_model(const ModelConfig& config) {
  Decoder model(config, config.vocab);
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(3);
  model->initialise(generator);
  const torch::NoGradGuard no_grad;
  for (const Tensor& parameter : model->parameters()) parameter.add_(0.1 * torch::randn(parameter.sizes(), generator));
  model->eval();
  return model;
}

Tensor answers_of(Decoder model) {
  const torch::NoGradGuard no_grad;
  return model->forward(torch::arange(12).view({1, 12})).to(torch::kFloat);
}

class PublicFamily : public testing::TestWithParam<std::string> {
 protected:
  Json json() const {
    for (const Example& example : examples()) {
      if (example.name == GetParam()) return example.make();
    }
    throw std::out_of_range(GetParam());
  }
};

TEST_P(PublicFamily, WhatIsWrittenReadsAsTheSameModel) {
  const ModelConfig config = model_of(json());
  const ParameterPlace nowhere(torch::kMeta, torch::kFloat);
  const std::string text = public_config_text(config, Decoder(config, config.vocab), {1, 0, {7}}, "float32");
  const PublicConfig again = parse_public_config(text, "again");
  EXPECT_EQ(keys_of(model_config(again, mixers())), keys_of(config)) << text;
  EXPECT_EQ(again.tokens.stop, std::vector<int64_t>{7});
}

TEST_P(PublicFamily, EveryParameterHasAPlaceOfItsOwn) {
  const ModelConfig config = model_of(json());
  const ParameterPlace nowhere(torch::kMeta, torch::kFloat);
  const Decoder model(config, config.vocab);
  int64_t numbers = 0, written = 0;
  for (const Tensor& parameter : model->parameters()) numbers += parameter.numel();
  for (const TensorEntry& entry : public_tensors(model, torch::kFloat)) {
    int64_t count = 1;
    for (const int64_t size : entry.shape) count *= size;
    written += count;
  }
  const Family& family = family_of(config);
  for (const SpareTensor& one : family.spare(config)) {
    int64_t count = 1;
    for (const int64_t size : one.shape) count *= size;
    written -= count;
  }
  const int64_t padding = GetParam() == "kimi_k3" ? 3 * (8 - 3) : 0;  // of A_log
  EXPECT_EQ(written, numbers + padding);
}

TEST_P(PublicFamily, WhatIsWrittenAnswersTheSame) {
  const Folder folder;
  const ModelConfig config = model_of(json());
  const Decoder model = drawn_model(config);
  save_public(folder.path(), config, model, {}, torch::kFloat, uint64_t{1} << 30);
  const Tensor expected = answers_of(model);
  for (const bool map : {false, true}) {
    const Tensor actual = answers_of(load_public(folder.path(), mixers(), {"auto", map, {}}).model);
    EXPECT_LT((actual - expected).abs().max().item<float>(), 1e-4);
  }
}

// The weights with the experts of a layer in one tensor, as some files have them, and nothing aligned.
void write_fused_unaligned(const std::string& path) {
  const Safetensors content = decode_safetensors(read_file(path), path);
  Safetensors fused{{}, content.metadata};
  std::map<std::string, std::vector<Tensor>> experts;
  for (const auto& [name, tensor] : content.tensors) {
    const size_t at = name.find(".experts.");
    if (at == std::string::npos) {
      fused.tensors[name] = tensor;
    } else if (name.ends_with("up_proj.weight")) {
      const std::string gate = name.substr(0, name.size() - std::strlen("up_proj.weight")) + "gate_proj.weight";
      experts[name.substr(0, at) + ".experts.gate_up_proj"].push_back(torch::cat({content.tensors.at(gate), tensor}));
    } else if (name.ends_with("down_proj.weight")) {
      experts[name.substr(0, at) + ".experts.down_proj"].push_back(tensor);
    }
  }
  for (const auto& [name, items] : experts) fused.tensors[name] = torch::stack(items);
  std::string bytes = encode_safetensors(fused);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  bytes.insert(sizeof(length) + length, " ");
  ++length;
  std::memcpy(bytes.data(), &length, sizeof(length));
  write_file(path, bytes);
}

// Every parameter is a copy of its own numbers, and of no more.
TEST(PublicMemory, UnalignedExpertsAreCopiedOnce) {
  const Folder folder;
  Json many = qwen_experts();
  many["num_experts"] = 9;
  const ModelConfig config = model_of(many);
  save_public(folder.path(), config, drawn_model(config), {}, torch::kFloat, uint64_t{1} << 30);
  const Tensor expected = answers_of(load_public(folder.path(), mixers()).model);
  write_fused_unaligned(folder / "model.safetensors");
  for (const bool map : {false, true}) {
    const PublicModel loaded = load_public(folder.path(), mixers(), {"auto", map, {}});
    EXPECT_TRUE(torch::equal(answers_of(loaded.model), expected));
    for (const auto& item : loaded.model->named_parameters()) {
      EXPECT_EQ(item.value().storage().nbytes(), item.value().nbytes()) << item.key();
    }
  }
}

TEST(PublicMemory, AModelThatItsFilesCannotHoldIsRefusedBeforeItIsMade) {
  const Folder folder;
  const ModelConfig config = model_of(qwen_experts());
  save_public(folder.path(), config, drawn_model(config), {}, torch::kFloat, uint64_t{1} << 30);
  Json many = Json::parse(read_file(folder / "config.json"));
  many["num_hidden_layers"] = 1000;
  many["num_experts"] = 4096;
  many["layer_types"] = std::vector<std::string>(1000, "full_attention");
  write_file(folder / "config.json", many.dump());
  EXPECT_CONTAINS(failure_of([&] { load_public(folder.path(), mixers()); }), "4096 experts in 1000 of them");
}

// The text model of a file that also has others.
TEST_P(PublicFamily, PrefixesAndOtherModelsAreTaken) {
  const Folder folder;
  const ModelConfig config = model_of(json());
  save_public(folder.path(), config, drawn_model(config), {}, torch::kFloat, uint64_t{1} << 30);
  const Tensor expected = answers_of(load_public(folder.path(), mixers()).model);
  const std::string path = folder.path() + "/model.safetensors";
  const Safetensors content = decode_safetensors(read_file(path), path);
  Safetensors other = content;
  other.tensors.clear();
  const bool kimi = GetParam() == "kimi_k3";
  for (const auto& [name, tensor] : content.tensors) {
    const bool moved = kimi || name.starts_with("model.");
    other.tensors[!moved ? name : kimi ? "language_model." + name : "model.language_model." + name.substr(6)] = tensor;
  }
  other.tensors[kimi ? "vision_tower.x" : "model.visual.x"] = torch::ones({3});
  other.tensors[kimi ? "mm_projector.x" : "mtp.x"] = torch::ones({3});
  write_file(path, encode_safetensors(other));
  EXPECT_TRUE(torch::equal(answers_of(load_public(folder.path(), mixers()).model), expected));
}

INSTANTIATE_TEST_SUITE_P(Families, PublicFamily, testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const Example& example : examples()) names.push_back(example.name);
                           return names;
                         }()),
                         [](const auto& example) { return example.param; });

TEST(QwenConfig, SaysWhatTheModelIs) {
  const ModelConfig config = model_of(qwen_next());
  EXPECT_EQ(config.layer_mixers(), (std::vector<std::string>{"gdn", "gated_attention", "gdn"}));
  const ParameterPlace nowhere(torch::kMeta, torch::kFloat);
  const Decoder model(config, config.vocab);
  const auto parameters = model->named_parameters();
  EXPECT_EQ(parameters["layer0.mixer.q_proj.weight"].sizes(), at::IntArrayRef({2 * 10, 24}));
  EXPECT_EQ(parameters["layer0.mixer.v_proj.weight"].sizes(), at::IntArrayRef({6 * 7, 24}));
  EXPECT_EQ(parameters["layer1.mixer.q_proj.weight"].sizes(), at::IntArrayRef({2 * 6 * 8, 24}));
  EXPECT_EQ(parameters["layer1.mixer.k_proj.weight"].sizes(), at::IntArrayRef({2 * 8, 24}));
  EXPECT_EQ(parameters["layer0.mlp.gate_proj.weight"].sizes(), at::IntArrayRef({30, 24}));
  EXPECT_EQ(parameters["layer1.mlp.shared.gate_proj.weight"].sizes(), at::IntArrayRef({20, 24}));
  EXPECT_EQ(parameters["layer1.mlp.shared_gate.weight"].sizes(), at::IntArrayRef({1, 24}));
  EXPECT_EQ(parameters.find("layer1.mlp.correction_bias"), nullptr);
}

// Rows of the query, key, value and gate of a key head follow each other in Qwen3-Next.
TEST(QwenLayout, GathersTheRowsOfEveryHead) {
  const ModelConfig config = model_of(qwen_next());
  const auto rows = [&](const char* name, std::vector<int64_t> shape) {
    std::vector<std::pair<int64_t, int64_t>> all;
    const std::vector<TensorPlace> places = family_of(config).places(config, name, shape);
    for (const auto& [begin, count] : places.front().rows) all.emplace_back(begin, count);
    return all;
  };
  using Rows = std::vector<std::pair<int64_t, int64_t>>;
  EXPECT_EQ(rows("layer0.mixer.q_proj.weight", {20, 24}), (Rows{{0, 10}, {62, 10}}));
  EXPECT_EQ(rows("layer0.mixer.k_proj.weight", {20, 24}), (Rows{{10, 10}, {72, 10}}));
  EXPECT_EQ(rows("layer0.mixer.v_proj.weight", {42, 24}), (Rows{{20, 21}, {82, 21}}));
  EXPECT_EQ(rows("layer0.mixer.g_proj.weight", {42, 24}), (Rows{{41, 21}, {103, 21}}));
  EXPECT_EQ(rows("layer0.mixer.a_proj.weight", {6, 24}), (Rows{{3, 3}, {9, 3}}));
  EXPECT_EQ(rows("layer0.mixer.v_conv.weight", {42, 3}), (Rows{{40, 42}}));
}

TEST(QwenConfig, RefusesByName) {
  const auto expect = [](const std::string& words, Json (*make)(), const Change& change) {
    Json json = make();
    change(json);
    EXPECT_CONTAINS(message_of<UsageError>([&] { model_of(json); }), words);
  };
  expect("unknown field 'hiden_size'", qwen_next, [](Json& json) { json["hiden_size"] = 1; });
  expect("head_dim is missing", qwen_next, [](Json& json) { json.erase("head_dim"); });
  expect("layer_types (or full_attention_interval) is missing", qwen_next,
         [](Json& json) { json.erase("layer_types"); });
  expect("contradicts full_attention_interval = 3", qwen_next, [](Json& json) { json["full_attention_interval"] = 3; });
  expect("linear_num_value_heads = 5", qwen_next, [](Json& json) { json["linear_num_value_heads"] = 5; });
  expect("num_key_value_heads = 4", qwen_next, [](Json& json) { json["num_key_value_heads"] = 4; });
  expect("attention_bias", qwen_next, [](Json& json) { json["attention_bias"] = true; });
  expect("attn_output_gate", qwen_next, [](Json& json) { json["attn_output_gate"] = false; });
  expect("rope_type", qwen_next, [](Json& json) { json["rope_parameters"]["rope_type"] = "yarn"; });
  expect("unknown field 'factor'", qwen_next, [](Json& json) { json["rope_parameters"]["factor"] = 4; });
  expect("rope_theta = 7", qwen_next, [](Json& json) { json["rope_theta"] = 7; });
  expect("partial_rotary_factor = 0.4", qwen_next,
         [](Json& json) { json["rope_parameters"]["partial_rotary_factor"] = 0.4; });
  expect("rope_theta is missing", qwen_next, [](Json& json) { json["rope_parameters"].erase("rope_theta"); });
  expect("layer 2 is dense", qwen_next, [](Json& json) { json["mlp_only_layers"] = {2}; });
  expect("3 is not a layer", qwen_next, [](Json& json) { json["mlp_only_layers"] = {3}; });
  expect("num_experts_per_tok = 6", qwen_next, [](Json& json) { json["num_experts_per_tok"] = 6; });
  expect("norm_topk_prob", qwen_experts, [](Json& json) { json["norm_topk_prob"] = false; });
  expect("num_experts", qwen_dense, [](Json& json) { json["num_experts"] = 4; });
  expect("intermediate_size is missing", qwen_dense, [](Json& json) { json.erase("intermediate_size"); });
  expect("hidden_act", qwen_dense, [](Json& json) { json["hidden_act"] = "gelu"; });
  expect("quantization_config", qwen_dense, [](Json& json) { json["quantization_config"] = {{"bits", 4}}; });
}

TEST(KimiK3Config, SaysWhatTheModelIs) {
  const ModelConfig config = model_of(kimi_k3());
  EXPECT_EQ(config.layer_mixers(), (std::vector<std::string>{"kda", "kda", "kda", "gated_mla", "gated_mla"}));
  EXPECT_EQ(config.attention_residuals, 2);
  EXPECT_EQ(config.activation.name, "situ");
  EXPECT_EQ(config.moe.latent_width, 11);
  const ParameterPlace nowhere(torch::kMeta, torch::kFloat);
  const Decoder model(config, config.vocab);
  const auto parameters = model->named_parameters();
  EXPECT_EQ(parameters["layer0.mixer.g_proj.weight"].sizes(), at::IntArrayRef({24, 24}));
  EXPECT_EQ(parameters["layer0.mixer.f_a_proj.weight"].sizes(), at::IntArrayRef({8, 24}));
  EXPECT_EQ(parameters["layer3.mixer.g_proj.weight"].sizes(), at::IntArrayRef({27, 24}));
}

TEST(KimiK3Config, TakesTheTextModelOfAMultimodalOne) {
  const Json json = {{"model_type", "kimi_k3"},
                     {"text_config", kimi_k3()},
                     {"vision_config", Json::object()},
                     {"eos_token_id", {8, 9}},
                     {"tie_word_embeddings", false}};
  const PublicConfig config = parse_public_config(json.dump(), "config.json");
  EXPECT_EQ(keys_of(model_config(config, mixers())), keys_of(model_of(kimi_k3())));
  EXPECT_EQ(config.tokens.stop, (std::vector<int64_t>{8, 9}));
}

TEST(KimiK3Config, RefusesByName) {
  const auto expect = [](const std::string& words, const Change& change) {
    Json json = kimi_k3();
    change(json);
    EXPECT_CONTAINS(message_of<UsageError>([&] { model_of(json); }), words);
  };
  expect("gate_lower_bound = -6", [](Json& json) { json["linear_attn_config"]["gate_lower_bound"] = -6; });
  expect("use_full_rank_gate", [](Json& json) { json["linear_attn_config"]["use_full_rank_gate"] = 1; });
  expect("latent_moe_use_norm is missing", [](Json& json) { json.erase("latent_moe_use_norm"); });
  expect("activation_situ_beta is missing", [](Json& json) { json.erase("activation_situ_beta"); });
  expect("hidden_act", [](Json& json) { json["hidden_act"] = "gelu"; });
  expect("attn_res_block_size = 0", [](Json& json) { json["attn_res_block_size"] = 0; });
  expect("mla_use_output_gate", [](Json& json) { json["mla_use_output_gate"] = "yes"; });
  expect("layer 5 is in neither", [](Json& json) { json["linear_attn_config"]["full_attn_layers"] = {4}; });
  expect("quantization_config", [](Json& json) { json["quantization_config"] = {{"format", "mxfp4"}}; });
}

TEST(KimiK3Layout, ReadsPaddedAndUnpaddedDecayRates) {
  const Folder folder;
  const ModelConfig config = model_of(kimi_k3());
  save_public(folder.path(), config, drawn_model(config), {}, torch::kFloat, uint64_t{1} << 30);
  const Tensor expected = answers_of(load_public(folder.path(), mixers()).model);
  const std::string path = folder.path() + "/model.safetensors";
  Safetensors content = decode_safetensors(read_file(path), path);
  Tensor& rates = content.tensors["model.layers.1.self_attn.A_log"];
  EXPECT_EQ(rates.sizes(), at::IntArrayRef({8}));
  EXPECT_EQ(rates.narrow(0, 3, 5).abs().max().item<float>(), 0);
  rates = rates.narrow(0, 0, 3).clone();
  write_file(path, encode_safetensors(content));
  EXPECT_TRUE(torch::equal(answers_of(load_public(folder.path(), mixers()).model), expected));
  content.tensors["model.layers.1.self_attn.A_log"] = torch::ones({7});
  write_file(path, encode_safetensors(content));
  EXPECT_CONTAINS(failure_of([&] { load_public(folder.path(), mixers()); }), "A_log' has shape [7]");
}

}  // namespace
}  // namespace klab
