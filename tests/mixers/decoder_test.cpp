// SPDX-License-Identifier: Apache-2.0
// Whole models: hybrids of all kinds, with experts, with all forms of input.
#include <gtest/gtest.h>
#include <torch/nn/module.h>
#include <torch/nn/utils/clip_grad.h>

#include "core/check/compare.h"
#include "core/io/checkpoint.h"
#include "core/model/accounting.h"
#include "core/train/adamw.h"
#include "mixers/support.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kVocabulary = 13;

struct Hybrid {
  const char* name;
  std::vector<Assignment> config;
};

const std::vector<Assignment> kSmall = {
    {"layers", "4", ""}, {"width", "20", ""}, {"heads", "2", ""}, {"head_dim", "6", ""}};
const std::vector<Assignment> kExperts = {{"moe.experts", "6", ""},
                                          {"moe.experts_per_token", "2", ""},
                                          {"moe.expert_width", "9", ""},
                                          {"moe.groups", "3", ""},
                                          {"moe.groups_per_token", "2", ""}};

std::vector<Assignment> with(std::vector<Assignment> base, const std::vector<Assignment>& more) {
  base.insert(base.end(), more.begin(), more.end());
  return base;
}

std::string all_mixers() {
  std::string all;
  for (const std::string& name : mixers().names()) all += (all.empty() ? "" : ",") + name;
  return all;
}

std::vector<Hybrid> hybrids() {
  return {{"three_mixers", with(kSmall, {{"pattern", "kda,mla_rope,mamba2", ""}})},
          {"ratio", with(kSmall, {{"pattern", "kda,mla", ""}, {"ratio", "3:1", ""}})},
          {"head_wise", with(kSmall, {{"pattern", "kda:1+attention_rope:1,gdn", ""}})},
          {"experts", with(with(kSmall, kExperts), {{"pattern", "kda,mla", ""}, {"last_layer", "fox", ""}})},
          {"all_mixers", with(with(kSmall, kExperts), {{"pattern", all_mixers(), ""},
                                                       {"layers", std::to_string(mixers().names().size()), ""}})}};
}

class EveryHybrid : public testing::TestWithParam<Hybrid> {
 protected:
  EveryHybrid() : model_(model_config(GetParam().config), kVocabulary) {
    model_->initialise(at::make_generator<at::CPUGeneratorImpl>(5));
    // Routing is discrete: in float32 two orders of summation may select different experts.
    model_->to(torch::kDouble);
  }

  Tensor tokens(int64_t B, int64_t T) { return torch::randint(kVocabulary, {B, T}, generator_, torch::kLong); }

  static void expect_close(const Tensor& actual, const Tensor& expected, const std::string& what) {
    const Comparison result = compare(actual.clone(), expected, Tolerance{.of_element = 1e-9, .of_rms = 1e-9});
    EXPECT_TRUE(result.pass) << what << ": " << result.message;
  }

  at::Generator generator_ = at::make_generator<at::CPUGeneratorImpl>(3);
  Decoder model_;
};

TEST_P(EveryHybrid, GivesTheSameInAnyCuts) {
  const torch::NoGradGuard no_grad;
  const Tensor ids = tokens(2, 19), whole = model_->forward(ids);
  for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{19}, {7, 1, 11}, std::vector<int64_t>(19, 1)}) {
    State state = model_->initial_state(2, torch::kCPU);
    std::vector<Tensor> parts;
    int64_t at = 0;
    for (const int64_t length : cuts) {
      parts.push_back(model_->forward(ids.narrow(1, at, length), {}, &state));
      at += length;
    }
    expect_close(torch::cat(parts, 1), whole, std::to_string(cuts.size()) + " cuts");
    EXPECT_EQ(state.bytes(), 2 * account(model_, 19).state_bytes);
  }
}

TEST_P(EveryHybrid, KeepsPackedSequencesApartForwardAndBackward) {
  const Tensor ids = tokens(1, 17), offsets = torch::tensor({0, 6, 7, 17});
  const Tensor y = model_->forward(ids, {offsets});
  y.square().sum().backward();
  std::map<std::string, Tensor> packed;
  for (const auto& item : model_->named_parameters()) packed[item.key()] = item.value().grad();
  model_->zero_grad();
  std::vector<Tensor> parts;
  for (const auto& [start, length] : {std::pair<int64_t, int64_t>{0, 6}, {6, 1}, {7, 10}}) {
    parts.push_back(model_->forward(ids.narrow(1, start, length)));
  }
  const Tensor separate = torch::cat(parts, 1);
  separate.square().sum().backward();
  expect_close(y.detach(), separate.detach(), "logits");
  for (const auto& item : model_->named_parameters()) {
    if (!packed.at(item.key()).defined()) continue;  // an expert without tokens
    expect_close(packed.at(item.key()), item.value().grad(), "gradient of " + item.key());
  }
}

// A left-padded batch of prompts of different lengths, then decoded together.
TEST_P(EveryHybrid, SeesNoPaddingOnTheLeft) {
  const torch::NoGradGuard no_grad;
  const std::vector<int64_t> padding = {4, 0, 8};
  const Tensor ids = tokens(3, 9), next = tokens(3, 3);
  Tensor other = ids.clone();
  for (int64_t b = 0; b < 3; ++b) other[b].narrow(0, 0, padding[static_cast<size_t>(b)]).fill_(kVocabulary - 1);

  State state = model_->initial_state(3, torch::kCPU);
  const Tensor hidden = model_->hidden_of_padded(ids, padding, &state);
  EXPECT_TRUE(torch::equal(model_->hidden_of_padded(other, padding), hidden));
  const Tensor later = model_->hidden(next, {}, &state);
  for (int64_t b = 0; b < 3; ++b) {
    const int64_t pad = padding[static_cast<size_t>(b)];
    const Tensor alone = model_->hidden(torch::cat({ids[b].narrow(0, pad, 9 - pad), next[b]}).unsqueeze(0))[0];
    expect_close(hidden[b].narrow(0, pad, 9 - pad), alone.narrow(0, 0, 9 - pad), "prompt");
    expect_close(later[b], alone.narrow(0, 9 - pad, 3), "continuation");
    EXPECT_EQ(hidden[b].narrow(0, 0, pad).abs().sum().item<double>(), 0);
  }
}

TEST_P(EveryHybrid, FollowsReorderedRowsAndSnapshots) {
  const torch::NoGradGuard no_grad;
  const Tensor ids = tokens(2, 6), next = tokens(2, 2), rows = torch::tensor({1, 1});
  State state = model_->initial_state(2, torch::kCPU);
  model_->forward(ids, {}, &state);
  State snapshot = state.clone();
  state.reorder(rows);
  const Tensor whole = model_->forward(torch::cat({ids.index_select(0, rows), next}, 1));
  expect_close(model_->forward(next, {}, &state), whole.narrow(1, 6, 2), "reordered");
  const Tensor before = model_->forward(torch::cat({ids, next}, 1));
  expect_close(model_->forward(next, {}, &snapshot), before.narrow(1, 6, 2), "snapshot");
}

TEST_P(EveryHybrid, SavesAndLoadsItsStateWithTheCheckpoint) {
  const torch::NoGradGuard no_grad;
  const std::string path = testing::TempDir() + "/klab_state_" + GetParam().name + ".safetensors";
  State state = model_->initial_state(2, torch::kCPU);
  model_->forward(tokens(2, 10), {}, &state);
  Checkpoint checkpoint;
  for (const auto& item : model_->named_parameters()) checkpoint.tensors["model." + item.key()] = item.value();
  state.put(checkpoint.tensors, "state.");
  save_checkpoint(path, checkpoint);

  const Checkpoint stored = load_checkpoint(path);
  Decoder again(model_config(GetParam().config), kVocabulary);
  again->to(torch::kDouble);
  for (auto& item : again->named_parameters()) item.value().copy_(stored.tensor("model." + item.key()));
  State loaded = again->initial_state(2, torch::kCPU);
  loaded.take(stored.tensors, "state.");
  std::remove(path.c_str());
  const Tensor next = tokens(2, 4);
  EXPECT_TRUE(torch::equal(again->forward(next, {}, &loaded), model_->forward(next, {}, &state)));
}

INSTANTIATE_TEST_SUITE_P(Patterns, EveryHybrid, testing::ValuesIn(hybrids()),
                         [](const auto& param) { return param.param.name; });

// The 48B architecture, all 27 layers of it, at 1/18 of its width: trained for a few steps, then decoded.
TEST(KimiLinear, TrainsAndDecodesAtAnEighteenthOfItsWidth) {
  const ModelConfig config = model_config({{"layers", "27", ""},
                                           {"width", "128", ""},
                                           {"heads", "4", ""},
                                           {"head_dim", "16", ""},
                                           {"mlp_width", "512", ""},
                                           {"pattern", "kda,mla", ""},
                                           {"ratio", "3:1", ""},
                                           {"last_layer", "mla", ""},
                                           {"moe.experts", "16", ""},
                                           {"moe.experts_per_token", "2", ""},
                                           {"moe.expert_width", "56", ""}});
  Decoder model(config, kVocabulary);
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(2);
  model->initialise(generator);
  AdamW adamw(*model, {});
  RankGroup alone;
  const Tensor ids = torch::randint(kVocabulary, {4, 25}, generator, torch::kLong);
  std::vector<double> losses;
  for (int step = 0; step < 6; ++step) {
    model->zero_grad();
    const Tensor logits = model->forward(ids.narrow(1, 0, 24)).reshape({-1, kVocabulary});
    const Tensor loss = torch::cross_entropy_loss(logits, ids.narrow(1, 1, 24).reshape({-1}));
    loss.backward();
    torch::nn::utils::clip_grad_norm_(model->parameters(), 1);
    adamw.step(3e-3);
    model->after_step(alone);
    losses.push_back(loss.item<double>());
  }
  EXPECT_LT(losses.back(), 0.8 * losses.front());

  const torch::NoGradGuard no_grad;
  const Tensor whole = model->forward(ids);
  State state = model->initial_state(4, torch::kCPU);
  std::vector<Tensor> parts{model->forward(ids.narrow(1, 0, 15), {}, &state)};
  for (int64_t t = 15; t < 25; ++t) parts.push_back(model->forward(ids.narrow(1, t, 1), {}, &state));
  const Tensor stepwise = torch::cat(parts, 1);
  EXPECT_LT((stepwise - whole).norm().item<double>(), 1e-4 * whole.norm().item<double>());
  EXPECT_EQ(state.bytes(), 4 * account(model, 25).state_bytes);
}

// --- Configs -------------------------------------------------------------------------------------------------------

using Names = std::vector<std::string>;

TEST(Pattern, IsRepeatedListedOrARatio) {
  EXPECT_EQ(model_config({{"layers", "5", ""}, {"pattern", "kda*2,mla", ""}}).layer_mixers(),
            (Names{"kda", "kda", "mla", "kda", "kda"}));
  EXPECT_EQ(model_config({{"layers", "3", ""}, {"pattern", "fox,gdn,kda", ""}}).layer_mixers(),
            (Names{"fox", "gdn", "kda"}));
  const auto ratio = [](const char* text, const char* layers) {
    return model_config({{"layers", layers, ""}, {"pattern", "kda,mla", ""}, {"ratio", text, ""}}).layer_mixers();
  };
  EXPECT_EQ(ratio("3:1", "5"), (Names{"kda", "kda", "kda", "mla", "kda"}));
  EXPECT_EQ(ratio("0:1", "2"), (Names{"mla", "mla"}));
  EXPECT_EQ(ratio("1:0", "2"), (Names{"kda", "kda"}));
  EXPECT_EQ(ratio("1:2", "3"), (Names{"kda", "mla", "mla"}));
}

TEST(Pattern, OfThe48bModelEndsInAttention) {
  const Names all =
      model_config({{"layers", "27", ""}, {"pattern", "kda,mla", ""}, {"ratio", "3:1", ""}, {"last_layer", "mla", ""}})
          .layer_mixers();
  std::vector<size_t> attention;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i] == "mla") attention.push_back(i);
  }
  EXPECT_EQ(attention, (std::vector<size_t>{3, 7, 11, 15, 19, 23, 26}));
}

std::string refusal(const std::vector<Assignment>& config) {
  try {
    model_config(config);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(Pattern, IsRefusedWithWhatWouldBeRight) {
  EXPECT_NE(refusal({{"pattern", "kdaa", ""}}).find("kda"), std::string::npos);
  EXPECT_NE(refusal({{"last_layer", "mlaa", ""}}).find("mla"), std::string::npos);
  EXPECT_NE(refusal({{"pattern", "kda*x,mla", ""}}).find("whole number"), std::string::npos);
  EXPECT_NE(refusal({{"pattern", "kda*0", ""}}).find("whole number"), std::string::npos);
  EXPECT_NE(refusal({{"pattern", "kda:2", ""}}).find("write 'kda'"), std::string::npos);
  EXPECT_NE(refusal({{"pattern", "kda:2+mla", ""}}).find("give it for all"), std::string::npos);
  EXPECT_NE(refusal({{"pattern", "kda:2+mla:1", ""}}).find("model.heads = 2"), std::string::npos);
  EXPECT_NE(refusal({{"pattern", "kda+mla", ""}, {"heads", "3", ""}}).find("does not divide"), std::string::npos);
  EXPECT_NE(refusal({{"pattern", "kda,mla,gdn", ""}, {"ratio", "3:1", ""}}).find("two mixers"), std::string::npos);
  EXPECT_NE(refusal({{"pattern", "kda,mla", ""}, {"ratio", "3", ""}}).find("3:1"), std::string::npos);
  EXPECT_NE(refusal({{"pattern", "kda,mla", ""}, {"ratio", "0:0", ""}}).find("no layer"), std::string::npos);
  EXPECT_NE(refusal({{"pattern", "attention", ""}, {"heads", "4", ""}, {"attention.kv_heads", "3", ""}}).find("divide"),
            std::string::npos);
  EXPECT_NE(refusal({{"pattern", "mla_rope", ""}, {"mla_rope.rope_dim", "3", ""}}).find("even"), std::string::npos);
  EXPECT_NE(refusal({{"moe.experts", "18", ""}, {"moe.groups", "4", ""}}).find("divide"), std::string::npos);
  EXPECT_NE(refusal({{"moe.experts", "4", ""}}).find("1..4"), std::string::npos);  // 8 experts per token
}

}  // namespace
}  // namespace klab
