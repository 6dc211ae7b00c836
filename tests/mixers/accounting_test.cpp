// SPDX-License-Identifier: Apache-2.0
// Cost accounting compared with published counts and with the executed operations.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/model/accounting.h"
#include "mixers/products.h"
#include "mixers/support.h"

namespace klab {
namespace {

using torch::Tensor;

// The config of moonshotai/Kimi-Linear-48B-A3B-Instruct.
ModelConfig kimi_linear_48b() {
  return model_config({{"layers", "27", ""},
                       {"width", "2304", ""},
                       {"heads", "32", ""},
                       {"head_dim", "128", ""},
                       {"mlp_width", "9216", ""},
                       {"pattern", "kda,mla", ""},
                       {"ratio", "3:1", ""},
                       {"last_layer", "mla", ""},
                       {"moe.experts", "256", ""},
                       {"moe.expert_width", "1024", ""}});
}

constexpr int64_t kVocabulary = 163'840;

TEST(Accounting, GivesTheCountsOfThe48bModelToTheUnit) {
  const ParameterPlace nowhere(torch::kMeta, torch::kBFloat16);
  const Decoder model(kimi_linear_48b(), kVocabulary);
  const int64_t tokens = 1'048'576;
  const Accounting sum = account(model, tokens);
  EXPECT_EQ(sum.parameters, 49'122'681'728);
  EXPECT_EQ(sum.parameters_without_embeddings, 48'367'707'008);
  EXPECT_EQ(sum.activated_parameters, 3'484'459'904);
  EXPECT_EQ(sum.activated_parameters_without_embeddings, 2'729'485'184);
  EXPECT_EQ(sum.cache_bytes_per_token, 8'064);
  EXPECT_EQ(sum.state_bytes, 41'943'040 + 1'474'560 + 8'064 * tokens);

  const auto layer = [&](size_t i) { return model->layers()[i]; };
  EXPECT_EQ(parameter_count(*layer(0)->mixer()), 39'514'272);
  EXPECT_EQ(parameter_count(*layer(3)->mixer()), 29'114'880);
  EXPECT_EQ(parameter_count(*layer(0)->feed_forward()), 63'700'992);
  EXPECT_EQ(parameter_count(*layer(1)->feed_forward()), 1'819'607'296);

  // 49,122,599,168 elements in bfloat16 and 82,560 in float32, apart from the correction bias: float32 here, bfloat16
  // on disk.
  int64_t bytes = 0;
  for (const auto& item : model->named_parameters()) {
    const bool on_disk_narrow = item.key().find("correction_bias") != std::string::npos;
    bytes += on_disk_narrow ? 2 * item.value().numel() : static_cast<int64_t>(item.value().nbytes());
  }
  EXPECT_EQ(bytes, 98'245'528'576);
}

TEST(Accounting, AllMlaCachesFourTimesAsMuch) {
  const ParameterPlace nowhere(torch::kMeta, torch::kBFloat16);
  ModelConfig config = kimi_linear_48b();
  assign(config, {{"ratio", "0:1", ""}});
  EXPECT_EQ(account(Decoder(config, kVocabulary), 1).cache_bytes_per_token, 31'104);
}

// Equations 13 and 14 at width 128, chunk 64: per token and head.
TEST(Accounting, FollowsTheReportsEquations) {
  const ParameterPlace nowhere(torch::kMeta, torch::kFloat);
  const auto beyond_projections = [](const std::string& name, const std::vector<Assignment>& options, int64_t tokens) {
    const auto mixer = make_mixer(name, {128, 1, 128}, options);
    return mixer->flops(tokens) - static_cast<double>(tokens) * linear_flops(*mixer);
  };
  EXPECT_DOUBLE_EQ(beyond_projections("kda", {{"short_conv", "false", ""}}, 1000) / 1000, 126'976);
  for (const int64_t T : {495, 497}) {
    const double attention = beyond_projections("attention", {}, T),
                 kda = beyond_projections("kda", {{"short_conv", "false", ""}}, T);
    EXPECT_DOUBLE_EQ(attention, 2.0 * static_cast<double>(T) * static_cast<double>(T) * 128);
    EXPECT_EQ(attention > kda, T > 496);
  }
}

// Recurrences and convolutions are not ATen matrix products: their FLOPs are added from formulas, the rest is counted.
constexpr int64_t kWidth = 64, kHeads = 2, kDim = 32, kLayers = 4, kWords = 50;

double by_hand(int64_t tokens, bool decode) {
  const double T = static_cast<double>(tokens), K = kDim;
  const double convolutions = 24.0 * kHeads * K;
  if (decode) return 3 * (convolutions + kHeads * 7 * K * K);
  return 3 * (T * convolutions + kHeads * (6 * T * K * K + 3 * T * 64 * K + T * 64 * 64));
}

Decoder counted_model() {
  Decoder model(model_config({{"layers", std::to_string(kLayers), ""},
                              {"width", std::to_string(kWidth), ""},
                              {"heads", std::to_string(kHeads), ""},
                              {"head_dim", std::to_string(kDim), ""},
                              {"pattern", "kda,mla", ""},
                              {"ratio", "3:1", ""},
                              // Keys as wide as values: ATen's fused attention pads narrower ones.
                              {"mla.nope_dim", "20", ""},
                              {"mla.rope_dim", "12", ""},
                              {"moe.experts", "6", ""},
                              {"moe.experts_per_token", "2", ""},
                              {"moe.expert_width", "24", ""}}),
                kWords);
  model->initialise(at::make_generator<at::CPUGeneratorImpl>(1));
  return model;
}

// With gradients enabled: otherwise products of few rows use klab's kernels, which the counter does not see.
TEST(Accounting, PrefillFlopsAreThoseThatAreDone) {
  Decoder model = counted_model();
  for (const int64_t T : {1, 33, 200}) {
    const ProductCounter counter;
    model->forward(torch::randint(kWords, {1, T}, torch::kLong));
    EXPECT_DOUBLE_EQ(counter.flops() + by_hand(T, false), account(model, T).prefill_flops) << T;
  }
}

TEST(Accounting, DecodeFlopsAreThoseThatAreDone) {
  Decoder model = counted_model();
  State state = model->initial_state(1, torch::kCPU);
  model->forward(torch::randint(kWords, {1, 70}, torch::kLong), {}, &state);
  const ProductCounter counter;
  model->forward(torch::randint(kWords, {1, 1}, torch::kLong), {}, &state);
  // With gradients, latent attention expands all 71 rows (128 channels into keys of 20 and values of 32 per head)
  // and attends to them, 32 wide. Without gradients the expansion is absorbed into the query and the output, and a row
  // costs a dot product of 140 and a sum of 128.
  const double expanded = 70 * 2.0 * 128 * kHeads * (20 + 32) + 2.0 * kHeads * 71 * (32 + 32);
  const double latent = 2.0 * kHeads * 71 * (140 + 128);
  EXPECT_DOUBLE_EQ(counter.flops() + by_hand(1, true) - expanded + latent, account(model, 70).decode_flops);
}

}  // namespace
}  // namespace klab
