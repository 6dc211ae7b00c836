// SPDX-License-Identifier: Apache-2.0
// Writing, reading and damaging checkpoints in the public layout.
#include "core/public/checkpoint.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <fstream>

#include "core/base/support.h"
#include "core/io/weight_files.h"
#include "core/model/generation.h"
#include "mixers/registry.h"

namespace klab {
namespace {

namespace fs = std::filesystem;
using torch::Tensor;

struct Root : Configurable {
  void visit(Fields& fields) override { fields.group("model", model); }
  ModelConfig model{mixers()};
};

ModelConfig small_config() {
  Root root;
  const auto set = [](const char* key, const char* value) {
    return Assignment{std::string("model.") + key, value, ""};
  };
  assign(root, {set("layers", "3"), set("width", "24"), set("heads", "2"), set("head_dim", "8"), set("vocab", "40"),
                set("pattern", "kda,mla"), set("moe.experts", "4"), set("moe.experts_per_token", "2"),
                set("moe.expert_width", "12")});
  return root.model;
}

Decoder drawn(const ModelConfig& config) {
  Decoder model(config, config.vocab);
  model->initialise(at::make_generator<at::CPUGeneratorImpl>(3));
  const torch::NoGradGuard no_grad;
  for (Tensor& parameter : model->parameters()) parameter.add_(0.1 * torch::rand_like(parameter));
  return model;
}

Tensor logits_of(Decoder model) {
  const torch::NoGradGuard no_grad;
  return model->forward(torch::arange(12).view({1, 12})).to(torch::kFloat);
}

// The median error over tokens, relative to the RMS of all logits: if rounding changes a token's experts, its logits
// are unrelated.
double error_of(const Tensor& logits, const Tensor& exact) {
  const Tensor per_token = (logits - exact).square().mean(-1).sqrt();
  return (per_token.median() / exact.square().mean().sqrt()).item<double>();
}

void save(const std::string& folder, const Decoder& model, torch::ScalarType dtype = torch::kFloat,
          uint64_t shard_bytes = uint64_t{1} << 30) {
  save_public(folder, small_config(), model, {std::nullopt, std::nullopt, {2}}, dtype, shard_bytes);
}

PublicModel load(const std::string& folder, const std::string& dtype = "auto", bool map = false) {
  return load_public(folder, mixers(), {dtype, map, {}});
}

// Changes the tensors of a checkpoint in one file.
void rewrite(const std::string& folder, const std::function<void(std::map<std::string, Tensor>&)>& change) {
  const std::string path = folder + "/model.safetensors";
  Safetensors content = decode_safetensors(read_file(path), path);
  change(content.tensors);
  write_file(path, encode_safetensors(content));
}

TEST(KimiCheckpoint, WhatIsWrittenAnswersTheSame) {
  const Folder folder;
  const Decoder model = drawn(small_config());
  save(folder.path(), model);
  const PublicModel loaded = load(folder.path());
  EXPECT_EQ(loaded.tokens.stop, std::vector<int64_t>{2});
  EXPECT_LT((logits_of(loaded.model) - logits_of(model)).abs().max().item<float>(), 1e-5);
  const Tensor mapped = logits_of(load(folder.path(), "auto", /*map=*/true).model);
  EXPECT_TRUE(torch::equal(mapped, logits_of(loaded.model)));
}

TEST(KimiCheckpoint, ShardsHoldTheSame) {
  const Folder whole, cut;
  const Decoder model = drawn(small_config());
  save(whole.path(), model);
  save(cut.path(), model, torch::kFloat, 5000);
  EXPECT_GT(cut.entries(), 4u);
  EXPECT_TRUE(torch::equal(logits_of(load(whole.path()).model), logits_of(load(cut.path()).model)));
}

TEST(KimiCheckpoint, MatricesStayInTheirDtype) {
  for (const auto& [dtype, activations] :
       {std::pair{torch::kBFloat16, torch::kBFloat16}, {torch::kHalf, torch::kFloat}}) {
    const Folder folder;
    const Decoder model = drawn(small_config());
    save(folder.path(), model, dtype);
    const PublicModel loaded = load(folder.path());
    const auto parameters = loaded.model->named_parameters();
    EXPECT_EQ(parameters["layer0.mixer.q_proj.weight"].scalar_type(), dtype);
    EXPECT_EQ(parameters["layer0.mixer_norm.weight"].scalar_type(), activations);
    EXPECT_EQ(parameters["layer0.mixer.A_log"].scalar_type(), torch::kFloat);
    const Tensor exact = logits_of(load(folder.path(), "float32").model);
    EXPECT_LT(error_of(logits_of(loaded.model), exact), activations == torch::kFloat ? 1e-5 : 0.03);
  }
}

TEST(KimiCheckpoint, EightBitsErrLittleAndSaySo) {
  const Folder folder;
  const Decoder model = drawn(small_config());
  save(folder.path(), model);
  const PublicModel loaded = load(folder.path(), "int8");
  EXPECT_EQ(loaded.model->named_parameters()["layer1.mlp.expert0.down_proj.weight"].scalar_type(), torch::kChar);
  EXPECT_GT(loaded.quantisation_error, 1e-4);
  EXPECT_LT(loaded.quantisation_error, 0.01);
  EXPECT_LT(loaded.weight_bytes, load(folder.path()).weight_bytes);
  EXPECT_LT(error_of(logits_of(loaded.model), logits_of(model)), 0.05);
}

// Equivalent shapes of the same tensors.
TEST(KimiCheckpoint, OtherShapesOfTheSameNumbersAreTaken) {
  const Folder folder;
  const Decoder model = drawn(small_config());
  save(folder.path(), model);
  const Tensor logits = logits_of(load(folder.path()).model);
  rewrite(folder.path(), [](std::map<std::string, Tensor>& tensors) {
    for (auto& [name, tensor] : tensors) {
      if (name.find("conv1d") != std::string::npos) tensor = tensor.squeeze(1);
      if (name.find("A_log") != std::string::npos) tensor = tensor.flatten();
      if (name.find("dt_bias") != std::string::npos) tensor = tensor.view({2, 8});
    }
    tensors["model.mtp.something"] = torch::ones({3});
  });
  EXPECT_TRUE(torch::equal(logits_of(load(folder.path()).model), logits));
}

TEST(KimiCheckpoint, NamesTheTensorThatIsWrong) {
  const Folder folder;
  const Decoder model = drawn(small_config());
  const std::string norm = "model.layers.1.input_layernorm.weight";
  const auto refused = [&](const std::string& words,
                           const std::function<void(std::map<std::string, Tensor>&)>& change) {
    save(folder.path(), model);
    rewrite(folder.path(), change);
    const std::string message = failure_of([&] { load(folder.path()); });
    EXPECT_CONTAINS(message, words);
  };
  refused("has no tensor '" + norm, [&](auto& tensors) { tensors.erase(norm); });
  refused("'extra' does not belong", [&](auto& tensors) { tensors["extra"] = torch::ones({1}); });
  refused("'" + norm + "' has shape [25]", [&](auto& tensors) { tensors[norm] = torch::ones({25}); });
  refused("'" + norm + "' has dtype", [&](auto& tensors) { tensors[norm] = torch::ones({24}, torch::kInt); });
  save(folder.path(), model);
  rewrite(folder.path(), [&](auto& tensors) { tensors["lm_head.weight"].fill_(NAN); });
  EXPECT_CONTAINS(failure_of([&] { load(folder.path(), "int8"); }), "lm_head.weight");
}

TEST(WeightFiles, RefusesAnIndexThatItsShardsContradict) {
  const Folder folder;
  const Decoder model = drawn(small_config());
  const std::string index = folder / "model.safetensors.index.json";
  const auto refused = [&](const std::string& words, const std::string& from, const std::string& to) {
    save(folder.path(), model, torch::kFloat, 5000);
    std::string text = read_file(index);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos);
    write_file(index, text.replace(at, from.size(), to));
    EXPECT_CONTAINS(failure_of([&] { WeightFiles files(folder.path()); }), words);
  };
  for (const char* place : {"../", "/etc/", "sub/"}) {
    refused("must be the name of a file", "\"model-00001", std::string("\"") + place + "model-00001");
  }
  refused("must be the name of a file", "\"model-00001", "\"..\", \"x\": \"model-00001");
  refused("model-00009-of-00003.safetensors", "\"model-00001", "\"model-00009-of-00003.safetensors\", \"x\": \"y");
  refused("model.embed_tokens.weight", "model.embed_tokens.weight", "model.embed_tokens.wait");
  refused("has no object 'weight_map'", "weight_map", "weights");
  refused("not valid JSON", "{", "");
}

TEST(WeightFiles, RefusesALinkOutOfTheFolder) {
  const Folder folder, other;
  save(other.path(), drawn(small_config()));
  fs::create_symlink(other / "model.safetensors", folder / "model.safetensors");
  EXPECT_CONTAINS(failure_of([&] { WeightFiles files(folder.path()); }), "is a symbolic link out of its folder");
  fs::create_directories(folder / "snapshots/1a2b");
  fs::create_directories(folder / "blobs");
  fs::rename(other / "model.safetensors", folder / "blobs/77");
  fs::create_symlink("../../blobs/77", folder / "snapshots/1a2b/model.safetensors");
  EXPECT_GT(WeightFiles(folder / "snapshots/1a2b").bytes(), 0u);
}

TEST(Generation, SamplesWhatItIsAskedFor) {
  const Tensor logits = torch::tensor({0.0f, 3.0f, 1.0f, 2.9f, -5.0f});
  EXPECT_EQ(Sampler({}, 0).draw(logits), 1);
  EXPECT_EQ(Sampler({2.0, 1, 1, 5}, 0).draw(logits), 1);
  EXPECT_EQ(Sampler({2.0, 0, 1e-6, 5}, 0).draw(logits), 1);
  Sampler sampler({1.0, 0, 1, 7}, 0), limited({1.0, 2, 1, 7}, 0);
  std::vector<double> counts(5), few(5);
  constexpr int kDraws = 20'000;
  for (int i = 0; i < kDraws; ++i) {
    ++counts[static_cast<size_t>(sampler.draw(logits))];
    ++few[static_cast<size_t>(limited.draw(logits))];
  }
  const Tensor expected = torch::softmax(logits.to(torch::kDouble), 0);
  for (size_t id = 0; id < 5; ++id) {
    const double p = expected[static_cast<int64_t>(id)].item<double>();
    EXPECT_NEAR(counts[id] / kDraws, p, 5 * std::sqrt(p / kDraws) + 1e-9) << id;
  }
  EXPECT_EQ(few[0] + few[2] + few[4], 0);
  EXPECT_GT(few[3], kDraws / 3);
  EXPECT_THROW(Sampler({}, 0).draw(torch::tensor({0.0f, NAN})), Error);
}

TEST(Generation, ABatchAnswersAsItsPromptsAlone) {
  const Decoder model = drawn(small_config());
  Decoder handle = model;
  GenerationOptions options;
  options.max_new_tokens = 9;
  options.chunk = 4;
  const std::vector<std::vector<int64_t>> prompts = {{1, 2, 3, 4, 5, 6, 7}, {9}, {11, 3}};
  const Generated together = generate(handle, prompts, options);
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(together.tokens[i], generate(handle, {prompts[i]}, options).tokens[0]) << i;
  }
  // One answer ends with a stop token, the others continue.
  options.stop = {together.tokens[1][2]};
  const Generated stopped = generate(handle, prompts, options);
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::vector<int64_t>&whole = together.tokens[i], &cut = stopped.tokens[i];
    const auto end = std::find(whole.begin(), whole.end(), options.stop[0]);
    EXPECT_EQ(cut, std::vector<int64_t>(whole.begin(), end == whole.end() ? end : end + 1)) << i;
  }
}

// Continuing from a state with only the new tokens equals a prefill of all tokens.
TEST(Generation, GoesOnFromAState) {
  Decoder model = drawn(small_config());
  GenerationOptions options;
  options.max_new_tokens = 4;
  const Generated first = generate(model, {{1, 2, 3}}, options);
  const Generated second = generate(model, {{first.tokens[0].back(), 8, 9}}, options, &first.state);
  std::vector<int64_t> all = {1, 2, 3};
  all.insert(all.end(), first.tokens[0].begin(), first.tokens[0].end());
  all.insert(all.end(), {8, 9});
  EXPECT_EQ(second.tokens[0], generate(model, {all}, options).tokens[0]);
}

TEST(Generation, RefusesTokensThatThereAreNot) {
  Decoder model = drawn(small_config());
  EXPECT_CONTAINS(message_of<UsageError>([&] { generate(model, {{40}}, {}); }), "0..39");
  EXPECT_CONTAINS(message_of<UsageError>([&] { generate(model, {{}}, {}); }), "no token");
}

}  // namespace
}  // namespace klab
