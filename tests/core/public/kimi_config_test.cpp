// SPDX-License-Identifier: Apache-2.0
// Reading and writing public configs.
#include "core/public/public_config.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <nlohmann/json.hpp>

#include "core/base/support.h"
#include "core/model/accounting.h"
#include "core/public/checkpoint.h"
#include "mixers/registry.h"

namespace klab {
namespace {

using Json = nlohmann::ordered_json;

// A small config in the published names; `change` may damage it.
std::string config_text(const std::function<void(Json&)>& change = [](Json&) {}) {
  Json json = {{"model_type", "kimi_linear"},
               {"hidden_size", 48},
               {"num_hidden_layers", 5},
               {"vocab_size", 100},
               {"rms_norm_eps", 1e-4},
               {"num_attention_heads", 3},
               {"num_key_value_heads", 3},
               {"q_lora_rank", nullptr},
               {"kv_lora_rank", 20},
               {"qk_nope_head_dim", 12},
               {"qk_rope_head_dim", 6},
               {"v_head_dim", 10},
               {"mla_use_nope", true},
               {"intermediate_size", 80},
               {"moe_intermediate_size", 24},
               {"num_experts", 8},
               {"num_experts_per_token", 2},
               {"num_shared_experts", 2},
               {"first_k_dense_replace", 1},
               {"moe_renormalize", true},
               {"routed_scaling_factor", 2.0},
               {"num_expert_group", 4},
               {"topk_group", 2},
               {"eos_token_id", 7},
               {"linear_attn_config",
                {{"head_dim", 16},
                 {"num_heads", 2},
                 {"short_conv_kernel_size", 3},
                 {"full_attn_layers", {3, 5}},
                 {"kda_layers", {1, 2, 4}}}}};
  change(json);
  return json.dump();
}

ModelConfig parsed(const std::string& text) { return model_config(parse_public_config(text, "config.json"), mixers()); }

std::string refusal(const std::function<void(Json&)>& change) {
  return message_of<UsageError>([&] { parsed(config_text(change)); });
}

std::string yaml_of(ModelConfig config) { return to_yaml(config); }

TEST(PublicConfig, TheBuiltInOneIsThePublishedModelToTheByte) {
  const ModelConfig config = model_config(read_public_config("kimi-linear-48b"), mixers());
  const ParameterPlace nowhere(torch::kMeta, torch::kBFloat16);
  const Decoder model(config, config.vocab);
  EXPECT_EQ(account(model, 1).parameters, 49'122'681'728);
  const std::vector<TensorEntry> tensors = public_tensors(model, torch::kBFloat16);
  EXPECT_EQ(tensors.size(), 20'493u);
  int64_t bytes = 0;
  for (const TensorEntry& entry : tensors) {
    int64_t numbers = 1;
    for (const int64_t size : entry.shape) numbers *= size;
    bytes += numbers * static_cast<int64_t>(torch::elementSize(entry.dtype));
  }
  EXPECT_EQ(bytes, 98'245'528'576);
}

TEST(PublicConfig, SaysWhatTheModelIs) {
  const ModelConfig config = parsed(config_text());
  EXPECT_EQ(config.layer_mixers(), (std::vector<std::string>{"kda", "kda", "mla", "kda", "mla"}));
  EXPECT_EQ(config.heads, 2);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.norm_eps, 1e-4);
  EXPECT_EQ(config.moe.groups_per_token, 2);
  const ParameterPlace nowhere(torch::kMeta, torch::kFloat);
  const Decoder model(config, config.vocab);
  const auto parameters = model->named_parameters();
  EXPECT_EQ(parameters["layer0.mixer.q_conv.weight"].sizes(), at::IntArrayRef({32, 3}));
  EXPECT_EQ(parameters["layer2.mixer.q_proj.weight"].sizes(), at::IntArrayRef({3 * 18, 48}));
  EXPECT_EQ(parameters["layer2.mixer.kv_b_proj.weight"].sizes(), at::IntArrayRef({3 * 22, 20}));
  EXPECT_EQ(parameters["layer1.mlp.shared.gate_proj.weight"].sizes(), at::IntArrayRef({48, 48}));
}

TEST(PublicConfig, WhatIsWrittenReadsAsTheSameModel) {
  const auto all_dense = [](Json& json) { json["first_k_dense_replace"] = 5; };
  const auto low_rank = [](Json& json) { json["q_lora_rank"] = 30; };
  for (const std::string& text : {config_text(), config_text(all_dense), config_text(low_rank)}) {
    const ModelConfig config = parsed(text);
    const ParameterPlace nowhere(torch::kMeta, torch::kFloat);
    const std::string again = public_config_text(config, Decoder(config, 100), {1, 0, {7}}, "float32");
    EXPECT_EQ(yaml_of(parsed(again)), yaml_of(config)) << again;
    EXPECT_EQ(parse_public_config(again, "again").tokens.stop, std::vector<int64_t>{7});
  }
}

TEST(PublicConfig, TheNamesOfTransformersSayTheSame) {
  const auto aliases = [](Json& json) {
    for (const auto& [published, alias] : {std::pair{"num_experts", "num_local_experts"},
                                           {"num_experts_per_token", "num_experts_per_tok"},
                                           {"num_shared_experts", "n_shared_experts"},
                                           {"num_expert_group", "n_group"},
                                           {"moe_renormalize", "norm_topk_prob"}}) {
      json[alias] = json[published];
      json.erase(published);
    }
    json["linear_head_dim"] = 16;
    json["linear_num_heads"] = 2;
    json["linear_conv_kernel_dim"] = 3;
    json["layer_types"] = {"linear_attention", "linear_attention", "full_attention", "linear_attention",
                           "full_attention"};
    json["mlp_layer_types"] = {"dense", "sparse", "sparse", "sparse", "sparse"};
    json.erase("linear_attn_config");
    json.erase("first_k_dense_replace");
  };
  EXPECT_EQ(yaml_of(parsed(config_text(aliases))), yaml_of(parsed(config_text())));
}

TEST(PublicConfig, RefusesByName) {
  const auto expect = [](const std::string& words, const std::function<void(Json&)>& change) {
    EXPECT_CONTAINS(refusal(change), words);
  };
  expect("unknown field 'hiden_size'; did you mean 'hidden_size'", [](Json& json) { json["hiden_size"] = 1; });
  expect("hidden_size is missing", [](Json& json) { json.erase("hidden_size"); });
  expect("hidden_size = \"48\"", [](Json& json) { json["hidden_size"] = "48"; });
  expect("vocab_size = -1", [](Json& json) { json["vocab_size"] = -1; });
  expect("vocab_size = 1.5", [](Json& json) { json["vocab_size"] = 1.5; });
  expect("num_hidden_layers = 18446744073709551615", [](Json& json) { json["num_hidden_layers"] = UINT64_MAX; });
  expect("num_local_experts = 9", [](Json& json) { json["num_local_experts"] = 9; });
  expect("num_key_value_heads", [](Json& json) { json["num_key_value_heads"] = 1; });
  expect("mla_use_nope", [](Json& json) { json["mla_use_nope"] = false; });
  expect("tie_word_embeddings", [](Json& json) { json["tie_word_embeddings"] = true; });
  expect("quantization_config", [](Json& json) { json["quantization_config"] = {{"bits", 4}}; });
  expect("model_type", [](Json& json) { json["model_type"] = "llama"; });
  expect("architectures", [](Json& json) { json["architectures"] = {"LlamaForCausalLM"}; });
  expect("max_position_embeddings = 2", [](Json& json) {
    json["model_max_length"] = 1;
    json["max_position_embeddings"] = 2;
  });
  expect("hidden_act", [](Json& json) { json["hidden_act"] = "gelu"; });
  expect("moe_layer_freq", [](Json& json) { json["moe_layer_freq"] = 2; });
  expect("layer 3 is listed twice", [](Json& json) { json["linear_attn_config"]["kda_layers"] = {1, 2, 3, 4}; });
  expect("layer 4 is in neither", [](Json& json) { json["linear_attn_config"]["kda_layers"] = {1, 2}; });
  expect("0 is not a layer", [](Json& json) { json["linear_attn_config"]["kda_layers"] = {0, 1, 2, 4}; });
  expect("lower_bound", [](Json& json) { json["linear_attn_config"]["lower_bound"] = -5; });
  expect("layer_types", [](Json& json) { json["layer_types"] = std::vector<std::string>(5, "full_attention"); });
  expect("mlp_layer_types", [](Json& json) { json["mlp_layer_types"] = std::vector<std::string>(5, "sparse"); });
  expect("linear_head_dim = 17", [](Json& json) { json["linear_head_dim"] = 17; });
  expect("num_experts_per_token", [](Json& json) { json["num_experts_per_token"] = 9; });
  EXPECT_CONTAINS(message_of<UsageError>([] { parsed("[]"); }), "must be a JSON object");
  EXPECT_CONTAINS(message_of<UsageError>([] { parsed("{"); }), "not valid JSON");
}

TEST(PublicConfig, WhatTheLayoutCannotSayIsRefusedByKey) {
  ModelConfig config = parsed(config_text());
  const auto written = [&] {
    const ParameterPlace nowhere(torch::kMeta, torch::kFloat);
    return public_config_text(config, Decoder(config, 100), {}, "float32");
  };
  config.pattern = {"gdn"};
  EXPECT_CONTAINS(message_of<UsageError>(written), "the public layout of Qwen3-Next and Qwen3.5 cannot express it");
  config.pattern = {"kda", "gdn"};
  EXPECT_CONTAINS(message_of<UsageError>(written), "model.pattern: no public layout has the layers gdn, kda");
  config = parsed(config_text());
  config.moe.biased_weights = true;
  EXPECT_CONTAINS(message_of<UsageError>(written), "model.moe.biased_weights = true");
}

TEST(PublicConfig, StopTokensOfTheGenerationConfigCountToo) {
  const Folder folder;
  write_file(folder / "config.json", config_text());
  write_file(folder / "generation_config.json", R"({"eos_token_id": [7, 9]})");
  EXPECT_EQ(read_public_config(folder.path()).tokens.stop, (std::vector<int64_t>{7, 9}));
  for (const std::string id : {"-2", "2147483648", "18446744073709551615", "1.5", "\"7\""}) {
    write_file(folder / "generation_config.json", "{\"eos_token_id\": [7, " + id + "]}");
    EXPECT_CONTAINS(message_of<UsageError>([&] { read_public_config(folder.path()); }), "must be a token id");
  }
}

}  // namespace
}  // namespace klab
