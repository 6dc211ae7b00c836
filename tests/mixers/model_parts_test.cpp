// SPDX-License-Identifier: Apache-2.0
// What models have around their mixers: activations, sandwich norms, Canon layers, attention residuals, value
// residuals, tied embeddings, latent experts. Each against its equations, and all in the decoder: cuts, packing,
// checkpointing, accounting.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <cmath>

#include "core/check/compare.h"
#include "core/model/accounting.h"
#include "core/model/activation.h"
#include "core/model/attention_residual.h"
#include "mixers/support.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kVocabulary = 29;

struct Part {
  std::string name;
  std::vector<Assignment> config;
};

const std::vector<Part>& parts() {
  static const std::vector<Part> all{
      {"plain", {}},
      {"situ", {{"activation", "situ", ""}, {"situ_beta", 1.5, ""}, {"situ_linear_beta", 2, ""}}},
      {"relu2", {{"activation", "relu2", ""}}},
      {"sandwich", {{"sandwich_norm", true, ""}}},
      {"canon", {{"canon", {"a", "c", "d"}, ""}}},
      {"residuals_of_one", {{"attention_residuals", 1, ""}}},
      {"residuals_of_two", {{"attention_residuals", 2, ""}}},
      {"values", {{"value_residual", true, ""}, {"pattern", {"kda", "attention"}, ""}}},
      {"tied", {{"tie_embeddings", true, ""}}},
      {"latent_experts",
       {{"first_dense", 1, ""},
        {"moe.experts", 6, ""},
        {"moe.experts_per_token", 2, ""},
        {"moe.expert_width", 12, ""},
        {"moe.latent_width", 10, ""},
        {"activation", "situ", ""}}},
      {"latent_swiglu",
       {{"first_dense", 0, ""},
        {"moe.experts", 6, ""},
        {"moe.experts_per_token", 2, ""},
        {"moe.expert_width", 12, ""},
        {"moe.latent_width", 10, ""},
        {"moe.latent_norm", false, ""}}},
      {"softmax_experts",
       {{"first_dense", 0, ""},
        {"moe.experts", 6, ""},
        {"moe.experts_per_token", 2, ""},
        {"moe.expert_width", 12, ""},
        {"moe.router", "softmax", ""},
        {"moe.shared_gate", true, ""},
        {"moe.shared_width", 10, ""}}},
      {"low_rank_decay",
       {{"kda.full_rank_gates", true, ""}, {"kda.decay_rank", "low", ""}, {"kda.lower_bound", -5, ""}}},
      {"everything",
       {{"pattern", {"kda*2", "attention"}, ""},
        {"activation", "situ", ""},
        {"sandwich_norm", true, ""},
        {"canon", {"a", "c", "d"}, ""},
        {"attention_residuals", 2, ""},
        {"value_residual", true, ""},
        {"tie_embeddings", true, ""}}}};
  return all;
}

const Part& part_named(const std::string& name) {
  for (const Part& part : parts()) {
    if (part.name == name) return part;
  }
  throw std::out_of_range(name);
}

Decoder model_with(const std::vector<Assignment>& more, torch::ScalarType dtype = torch::kDouble) {
  std::vector<Assignment> config{
      {"layers", 5, ""}, {"width", 16, ""}, {"heads", 2, ""}, {"head_dim", 8, ""}, {"pattern", {"kda", "gdn"}, ""}};
  for (const Assignment& one : more) {
    std::erase_if(config, [&](const Assignment& known) { return known.key == one.key; });
    config.push_back(one);
  }
  Decoder model(model_config(config), kVocabulary);
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(3);
  model->initialise(generator);
  const torch::NoGradGuard no_grad;
  for (const Tensor& parameter : model->parameters()) {  // zeros and ones could hide errors
    parameter.add_(0.1 * torch::randn(parameter.sizes(), generator));
  }
  model->to(dtype);
  return model;
}

Tensor random_tokens(int64_t B, int64_t T) {
  return torch::randint(kVocabulary, {B, T}, at::make_generator<at::CPUGeneratorImpl>(5), torch::kLong);
}

void expect_close(const Tensor& actual, const Tensor& expected, const std::string& what, double allowed = 1e-10) {
  const Comparison result =
      compare(actual.detach().clone(), expected.detach().clone(), {.of_element = allowed, .of_rms = allowed});
  EXPECT_TRUE(result.pass) << what << ": " << result.message;
}

class ModelPart : public testing::TestWithParam<std::string> {
 protected:
  Decoder model(torch::ScalarType dtype = torch::kDouble) { return model_with(part_named(GetParam()).config, dtype); }
};

TEST_P(ModelPart, GivesTheSameInAnyCuts) {
  const torch::NoGradGuard no_grad;
  for (const auto dtype : {torch::kDouble, torch::kFloat}) {
    Decoder decoder = model(dtype);
    const Tensor tokens = random_tokens(2, 21), whole = decoder->forward(tokens);
    for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{1, 20}, {7, 1, 1, 12}, std::vector<int64_t>(21, 1)}) {
      State state = decoder->initial_state(2, torch::kCPU);
      std::vector<Tensor> logits;
      int64_t at = 0;
      for (const int64_t length : cuts) {
        logits.push_back(decoder->forward(tokens.narrow(1, at, length), {}, &state));
        at += length;
      }
      expect_close(torch::cat(logits, 1), whole, GetParam(), dtype == torch::kDouble ? 1e-10 : 1e-3);
    }
  }
}

TEST_P(ModelPart, KeepsPackedSequencesApart) {
  const torch::NoGradGuard no_grad;
  Decoder decoder = model();
  const Tensor tokens = random_tokens(1, 20);
  const Tensor packed = decoder->forward(tokens, {torch::tensor({0, 2, 3, 13, 20})});
  int64_t at = 0;
  for (const int64_t length : {2, 1, 10, 7}) {
    expect_close(packed.narrow(1, at, length), decoder->forward(tokens.narrow(1, at, length)), GetParam());
    at += length;
  }
}

TEST_P(ModelPart, CheckpointingGivesTheSameGradients) {
  Decoder decoder = model();
  const Tensor tokens = random_tokens(2, 9);
  std::map<std::string, Tensor> kept;
  for (const bool checkpointing : {false, true}) {
    decoder->set_activation_checkpointing(checkpointing);
    decoder->zero_grad();
    decoder->forward(tokens).square().sum().backward();
    for (const auto& item : decoder->named_parameters()) {
      const Tensor& gradient = item.value().grad();
      if (!checkpointing && gradient.defined()) kept[item.key()] = gradient.clone();
      if (!checkpointing) continue;
      ASSERT_EQ(gradient.defined(), kept.contains(item.key())) << item.key();
      if (gradient.defined()) expect_close(gradient, kept.at(item.key()), item.key());
    }
  }
  EXPECT_FALSE(kept.empty());
}

TEST_P(ModelPart, EveryParameterHasAnEffect) {
  Decoder decoder = model();
  decoder->forward(random_tokens(2, 9)).square().sum().backward();
  for (const auto& item : decoder->named_parameters()) {
    if (!item.value().requires_grad()) continue;                    // a router's bias
    if (item.key().find(".expert") != std::string::npos) continue;  // not all are selected
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_GT(item.value().grad().abs().max().item<double>(), 0) << item.key();
  }
}

TEST_P(ModelPart, IsCounted) {
  Decoder decoder = model(torch::kFloat);
  const Accounting counted = account(decoder, 10);
  int64_t parameters = 0;
  for (const Tensor& parameter : decoder->parameters()) parameters += parameter.numel();
  EXPECT_EQ(counted.parameters, parameters);
  State state = decoder->initial_state(1, torch::kCPU);
  const torch::NoGradGuard no_grad;
  decoder->forward(random_tokens(1, 10), {}, &state);
  EXPECT_EQ(counted.state_bytes, state.bytes());
}

INSTANTIATE_TEST_SUITE_P(Parts, ModelPart, testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const Part& part : parts()) names.push_back(part.name);
                           return names;
                         }()),
                         test_name);

TEST(ActivationTest, IsItsFormula) {
  const double gates[] = {-3, -0.5, 0, 0.7, 4}, ups[] = {1.5, -2, 3, 0.25, -8};
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  const std::map<std::string, std::function<double(double, double)>> formulas{
      {"silu", [&](double x, double up) { return x * sigmoid(x) * up; }},
      {"gelu", [](double x, double up) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))) * up; }},
      {"gelu_tanh",
       [](double x, double up) {
         return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))) * up;
       }},
      {"relu", [](double x, double up) { return std::max(x, 0.0) * up; }},
      {"relu2", [](double x, double up) { return std::pow(std::max(x, 0.0), 2) * up; }},
      {"sigmoid", [&](double x, double up) { return sigmoid(x) * up; }},
      {"situ", [&](double x, double up) { return 4 * std::tanh(x / 4) * sigmoid(x) * 25 * std::tanh(up / 25); }}};
  ASSERT_EQ(formulas.size(), Activation::names().size());
  for (const auto& [name, formula] : formulas) {
    for (size_t i = 0; i < 5; ++i) {
      const Tensor gate = torch::full({1}, gates[i], torch::kDouble), up = torch::full({1}, ups[i], torch::kDouble);
      EXPECT_NEAR(Activation{name}(gate, up).item<double>(), formula(gates[i], ups[i]), 1e-12) << name << " " << i;
    }
  }
}

TEST(AttentionResidualTest, IsASoftmaxOverSources) {
  const torch::NoGradGuard no_grad;
  AttentionResidual residual(6, 1e-5);
  residual->to(torch::kDouble);
  const Tensor query = residual->named_parameters()["query"], weight = residual->named_parameters()["norm.weight"];
  query.normal_();
  weight.normal_();
  std::vector<Tensor> sources;
  for (int i = 0; i < 4; ++i) sources.push_back(torch::randn({2, 3, 6}, torch::kDouble));
  const Tensor y = residual->forward(sources);
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t t = 0; t < 3; ++t) {
      Tensor sum = torch::zeros({6}, torch::kDouble);
      double total = 0;
      for (const Tensor& source : sources) {
        const Tensor x = source[b][t];
        const double share =
            std::exp((query * weight * x / torch::sqrt(x.square().mean() + 1e-5)).sum().item<double>());
        total += share;
        sum += share * x;
      }
      expect_close(y[b][t], sum / total, "mixture");
    }
  }
  expect_close(residual->forward({sources[0]}), sources[0], "one source");
}

// Layer by layer: the first layer of a block closes the sum so far.
TEST(AttentionResidualTest, BlocksHoldTheSumsOfTheirLayers) {
  const torch::NoGradGuard no_grad;
  Decoder decoder = model_with({{"attention_residuals", 2, ""}});
  const Tensor x = torch::randn({1, 4, 16}, torch::kDouble);
  ResidualStream stream{x, {}, {}};
  std::vector<size_t> blocks;
  for (const DecoderLayer& layer : decoder->layers()) {
    const Tensor before = stream.x;
    stream = DecoderLayer(layer)->forward(stream, {}, nullptr);
    blocks.push_back(stream.blocks.size());
    EXPECT_TRUE(!layer->opens_block() || torch::equal(stream.blocks.back(), before));
  }
  EXPECT_EQ(blocks, (std::vector<size_t>{1, 1, 2, 2, 3}));
  EXPECT_TRUE(torch::equal(stream.blocks.front(), x));
}

TEST(ValueResidual, MixesTheValuesOfTheFirstLayer) {
  const torch::NoGradGuard no_grad;
  const auto share = [](Decoder& decoder, double own, double first) {
    for (const auto& item : decoder->named_parameters()) {
      if (item.key().find("value_share") != std::string::npos) item.value().copy_(torch::tensor({own, first}));
    }
    return decoder->forward(random_tokens(1, 8));
  };
  const std::vector<Assignment> config{{"value_residual", true, ""}, {"pattern", {"kda"}, ""}};
  Decoder with = model_with(config), without = model_with({{"pattern", {"kda"}, ""}});
  const auto from = with->named_parameters();
  for (const auto& item : without->named_parameters()) item.value().copy_(from[item.key()]);
  expect_close(share(with, 1, 0), without->forward(random_tokens(1, 8)), "own values alone");
  // With the first layer's values alone, the later layers' value projections do nothing.
  const Tensor first = share(with, 0, 1);
  for (const auto& item : with->named_parameters()) {
    if (item.key().find("layer0") != 0 && item.key().find("v_proj") != std::string::npos) item.value().zero_();
  }
  expect_close(share(with, 0, 1), first, "first values alone");
  EXPECT_THROW(model_with({{"value_residual", true, ""}, {"pattern", {"mla"}, ""}}), UsageError);
  EXPECT_THROW(model_with({{"value_residual", true, ""}, {"pattern", {"kda", "gdn"}, ""}, {"gdn.value_dim", 5, ""}})
                   ->forward(random_tokens(1, 3)),
               UsageError);
}

TEST(TiedEmbeddings, AreTheHead) {
  Decoder decoder = model_with({{"tie_embeddings", true, ""}});
  const auto parameters = decoder->named_parameters();
  EXPECT_EQ(parameters.find("lm_head.weight"), nullptr);
  EXPECT_EQ(decoder->head_weight().const_data_ptr(), parameters["embedding"].const_data_ptr());
  const Tensor tokens = random_tokens(1, 5);
  expect_close(decoder->forward(tokens), decoder->hidden(tokens).matmul(parameters["embedding"].t()), "logits");
}

TEST(LatentExperts, AreTheirEquations) {
  const torch::NoGradGuard no_grad;
  MoeConfig config;
  config.experts = 5;
  config.experts_per_token = 2;
  config.latent_width = 6;
  const Activation situ{.name = "situ"};
  for (const Activation& activation : {Activation{}, situ}) {
    MixtureOfExperts mixture(8, 7, config, nullptr, activation);
    mixture.to(torch::kDouble);
    for (const Tensor& parameter : mixture.parameters()) parameter.normal_(0, 0.5);
    const auto p = mixture.named_parameters();
    const Tensor x = torch::randn({1, 11, 8}, torch::kDouble);
    const Routing routing = mixture.route(x[0]);
    const auto expert = [&](const std::string& name, const Tensor& in) {
      const auto through = [&](const char* matrix, const Tensor& y) { return p[name + matrix].matmul(y); };
      return through(".down_proj.weight", activation(through(".gate_proj.weight", in), through(".up_proj.weight", in)));
    };
    const Tensor y = mixture.forward(x);
    for (int64_t t = 0; t < 11; ++t) {
      const Tensor latent = p["down_proj.weight"].matmul(x[0][t]);
      Tensor sum = torch::zeros({6}, torch::kDouble);
      for (int64_t i = 0; i < 2; ++i) {
        sum += routing.weights[t][i] * expert("expert" + std::to_string(routing.experts[t][i].item<int64_t>()), latent);
      }
      const Tensor normed = sum / torch::sqrt(sum.square().mean() + 1e-5) * p["latent_norm.weight"];
      expect_close(y[0][t], p["up_proj.weight"].matmul(normed) + expert("shared", x[0][t]), activation.name);
    }
  }
}

TEST(ModelParts, RefuseWhatDoesNotExist) {
  EXPECT_THROW(model_with({{"canon", {"b"}, ""}}), UsageError);
  EXPECT_THROW(model_with({{"canon", {"a", "none"}, ""}}), UsageError);
  EXPECT_NO_THROW(model_with({{"canon", {"none"}, ""}}));
  EXPECT_THROW(model_with({{"activation", "tanh", ""}}), UsageError);
  EXPECT_THROW(model_with({{"attention_residuals", -1, ""}}), UsageError);
}

}  // namespace
}  // namespace klab
