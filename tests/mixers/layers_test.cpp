// Facts about single mixers: published parameter counts, options, and refusals.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/base/error.h"
#include "core/check/compare.h"
#include "core/model/accounting.h"
#include "mixers/kda.h"
#include "mixers/registry.h"

namespace klab {
namespace {

using torch::Tensor;

int64_t parameters_of(const torch::nn::Module& module) {
  int64_t sum = 0;
  for (const auto& parameter : module.parameters()) sum += parameter.numel();
  return sum;
}

std::shared_ptr<TokenMixer> make(const std::string& name, const MixerShape& shape,
                                 const std::vector<Assignment>& options = {}) {
  const MixerEntry& entry = mixers().at(name);
  const auto chosen = entry.make_options();
  assign(*chosen, options);
  return entry.make(shape, *chosen);
}

// kimi-linear-facts: per-layer parameters at hidden 256, two heads of 128; the 48B model's KDA layer.
TEST(Parameters, AreThePublishedCounts) {
  EXPECT_EQ(parameters_of(*make("kda", {256, 2, 128})), 397'186);
  EXPECT_EQ(parameters_of(*make("mamba2", {256, 2, 128})), 265'478);
  EXPECT_EQ(parameters_of(*make("kda", {2304, 32, 128})), 39'514'272);
}

TEST(Options, ChangeWhatTheySay) {
  const MixerShape shape{16, 2, 8};
  const int64_t base = parameters_of(*make("kda", shape));
  const int64_t conv = 3 * 16 * 4, gate = 16 * 8 + 8 * 16;
  EXPECT_EQ(parameters_of(*make("kda", shape, {{"short_conv", "false", ""}})), base - conv);
  EXPECT_EQ(parameters_of(*make("kda", shape, {{"output_gate", "none", ""}})), base - gate);
  EXPECT_EQ(parameters_of(*make("kda", shape, {{"output_gate", "swish", ""}})), base);
  EXPECT_EQ(make("kda", shape, {{"value_heads", "4", ""}, {"short_conv", "false", ""}})->state_bytes(1), 4 * 8 * 8 * 4);
  EXPECT_EQ(make("mamba2", shape, {{"state", "5", ""}, {"groups", "2", ""}})->state_bytes(1),
            2 * 5 * 8 * 4 + 3 * (16 + 2 * 2 * 5) * 4);
}

TEST(Options, EveryCombinationRunsForwardAndBackward) {
  const std::vector<std::vector<Assignment>> variants = {
      {{"output_gate", "swish", ""}, {"short_conv", "false", ""}},
      {{"output_gate", "none", ""}, {"allow_neg_eigval", "true", ""}},
      {{"lower_bound", "-5", ""}, {"value_heads", "4", ""}, {"value_dim", "5", ""}}};
  for (const auto& variant : variants) {
    const auto mixer = make("kda", {16, 2, 8}, variant);
    {
      const torch::NoGradGuard no_grad;
      for (const auto& parameter : mixer->parameters()) parameter.fill_(0.1);
    }
    const Tensor y = mixer->forward(torch::ones({1, 9, 16}), {}, nullptr);
    y.sum().backward();
    EXPECT_EQ(y.sizes(), torch::IntArrayRef({1, 9, 16}));
    EXPECT_TRUE(torch::isfinite(y).all().item<bool>());
  }
}

TEST(Options, RefuseWhatDoesNotDivideOrFit) {
  EXPECT_THROW(make("kda", {16, 2, 8}, {{"value_heads", "3", ""}}), UsageError);
  EXPECT_THROW(make("kda", {16, 2, 8}, {{"lower_bound", "-6", ""}}), UsageError);
  EXPECT_THROW(make("kda", {16, 2, 8}, {{"lower_bound", "1", ""}}), UsageError);
  EXPECT_THROW(make("kda", {16, 2, 8}, {{"value_dim", "257", ""}}), UsageError);
  EXPECT_THROW(make("mamba2", {16, 2, 8}, {{"groups", "3", ""}}), UsageError);
  EXPECT_THROW(make("mamba2", {16, 2, 8}, {{"groups", "0", ""}}), UsageError);
  EXPECT_THROW(make("kda", {16, 2, 8}, {{"output_gate", "tanh", ""}}), UsageError);
}

// A KDA layer written out token by token in float64, from its parameters alone.
TEST(Kda, EqualsItsEquationsWrittenOut) {
  constexpr int64_t D = 12, H = 2, K = 5, T = 11;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(5);
  const auto mixer = make("kda", {D, H, K});
  std::map<std::string, Tensor> p;
  {
    const torch::NoGradGuard no_grad;
    for (auto& item : mixer->named_parameters()) {
      item.value().normal_(0, 0.5, generator);
      p[item.key()] = item.value().detach().to(torch::kDouble);
    }
  }
  const Tensor x32 = torch::randn({T, D}, generator), x = x32.to(torch::kDouble);
  const auto conv = [&](const Tensor& projected, const Tensor& taps) {  // [T, P], [P, 4]
    Tensor y = torch::zeros_like(projected);
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t w = 0; w < 4; ++w) {
        if (t - 3 + w >= 0) y[t] += taps.select(1, w) * projected[t - 3 + w];
      }
    }
    return (y * torch::sigmoid(y)).view({T, H, K});
  };
  const auto unit = [](const Tensor& y) { return y / (y.square().sum(-1, true) + 1e-6).sqrt(); };
  const Tensor q = unit(conv(x.matmul(p["q_proj.weight"].t()), p["q_conv.weight"])) / std::sqrt(5.0);
  const Tensor k = unit(conv(x.matmul(p["k_proj.weight"].t()), p["k_conv.weight"]));
  const Tensor v = conv(x.matmul(p["v_proj.weight"].t()), p["v_conv.weight"]);
  const Tensor raw = x.matmul(p["f_a_proj.weight"].t()).matmul(p["f_b_proj.weight"].t()) + p["dt_bias"];
  const Tensor decay = torch::exp(-p["A_log"].exp().unsqueeze(-1) * torch::log1p(raw.exp()).view({T, H, K}));
  const Tensor beta = torch::sigmoid(x.matmul(p["b_proj.weight"].t()));
  const Tensor gate =
      torch::sigmoid(x.matmul(p["g_a_proj.weight"].t()).matmul(p["g_b_proj.weight"].t())).view({T, H, K});
  Tensor y = torch::zeros({T, H, K}, torch::kDouble);
  for (int64_t h = 0; h < H; ++h) {
    Tensor S = torch::zeros({K, K}, torch::kDouble);
    for (int64_t t = 0; t < T; ++t) {
      S = decay[t][h].unsqueeze(-1) * S;
      S = S + beta[t][h] * torch::outer(k[t][h], v[t][h] - S.t().mv(k[t][h]));
      const Tensor o = S.t().mv(q[t][h]);
      y[t][h] = o / (o.square().mean() + 1e-5).sqrt() * p["o_norm"] * gate[t][h];
    }
  }
  const Tensor expected = y.view({T, H * K}).matmul(p["o_proj.weight"].t());
  const torch::NoGradGuard no_grad;
  const Comparison result = compare(mixer->forward(x32.unsqueeze(0), {}, nullptr).squeeze(0), expected,
                                    Tolerance{.of_element = 1e-4, .of_rms = 1e-4});
  EXPECT_TRUE(result.pass) << result.message;
}

ModelConfig model_config(const std::vector<Assignment>& assignments) {
  ModelConfig config(mixers());
  assign(config, assignments);
  config.validate();
  return config;
}

TEST(Decoder, RepeatsItsPatternAndContinuesFromAState) {
  const ModelConfig config = model_config({{"layers", "4", ""},
                                           {"width", "16", ""},
                                           {"heads", "2", ""},
                                           {"head_dim", "8", ""},
                                           {"pattern", "kda,gdn,mamba2", ""}});
  Decoder model(config, 11);
  model->initialise(at::make_generator<at::CPUGeneratorImpl>(1));
  EXPECT_EQ(config.layer_mixers(), (std::vector<std::string>{"kda", "gdn", "mamba2", "kda"}));
  const torch::NoGradGuard no_grad;
  const Tensor tokens = torch::arange(26).remainder(11).view({2, 13});
  const Tensor whole = model->forward(tokens);
  State state = model->initial_state(2, torch::kCPU);
  std::vector<Tensor> parts;
  for (int64_t t = 0; t < 13; ++t) parts.push_back(model->forward(tokens.narrow(1, t, 1), {}, &state));
  const Comparison result = compare(torch::cat(parts, 1), whole, Tolerance{.of_element = 2e-4, .of_rms = 2e-4});
  EXPECT_TRUE(result.pass) << result.message;
  EXPECT_EQ(account(model, 13).state_bytes * 2, state.bytes());
  EXPECT_EQ(account(model, 13).parameters, parameters_of(*model));
}

TEST(Decoder, DrawsTheSameParametersFromTheSameSeedAlone) {
  const ModelConfig config = model_config({});
  Decoder a(config, 7), b(config, 7), c(config, 7);
  a->initialise(at::make_generator<at::CPUGeneratorImpl>(1));
  torch::manual_seed(99);  // the global generator has no say
  b->initialise(at::make_generator<at::CPUGeneratorImpl>(1));
  c->initialise(at::make_generator<at::CPUGeneratorImpl>(2));
  const auto pa = a->parameters(), pb = b->parameters(), pc = c->parameters();
  bool all_equal_c = true;
  for (size_t i = 0; i < pa.size(); ++i) {
    EXPECT_TRUE(torch::equal(pa[i], pb[i]));
    all_equal_c = all_equal_c && torch::equal(pa[i], pc[i]);
  }
  EXPECT_FALSE(all_equal_c);
}

TEST(ModelConfig, CopiesItsOptionsWholly) {
  ModelConfig original = model_config({{"kda.output_gate", "none", ""}});
  ModelConfig copy = original;
  assign(copy, {{"kda.output_gate", "swish", ""}});
  EXPECT_NE(to_yaml(original).find("output_gate: none"), std::string::npos);
  EXPECT_NE(to_yaml(copy).find("output_gate: swish"), std::string::npos);
}

TEST(ModelConfig, RefusesUnknownMixersAndOptions) {
  EXPECT_THROW(model_config({{"pattern", "kdaa", ""}}), UsageError);
  EXPECT_THROW(model_config({{"gdn.output_gate", "none", ""}}), UsageError);  // gdn is not in the pattern
  EXPECT_THROW(model_config({{"head_dim", "300", ""}}), UsageError);
  EXPECT_THROW(model_config({{"layers", "0", ""}}), UsageError);
}

}  // namespace
}  // namespace klab
