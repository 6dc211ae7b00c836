// SPDX-License-Identifier: Apache-2.0
// Single mixers: published parameter counts, options and errors.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <fstream>

#include "core/base/error.h"
#include "core/check/compare.h"
#include "core/model/accounting.h"
#include "mixers/support.h"

namespace klab {
namespace {

using torch::Tensor;

// Published parameter counts per layer at hidden size 256 with two heads of 128, and of the 48B model's KDA layer.
TEST(Parameters, AreThePublishedCounts) {
  EXPECT_EQ(parameter_count(*make_mixer("kda", {256, 2, 128})), 397'186);
  EXPECT_EQ(parameter_count(*make_mixer("mamba2", {256, 2, 128})), 265'478);
  EXPECT_EQ(parameter_count(*make_mixer("kda", {2304, 32, 128})), 39'514'272);
}

TEST(Options, ChangeWhatTheySay) {
  const MixerShape shape{16, 2, 8};
  const int64_t base = parameter_count(*make_mixer("kda", shape));
  const int64_t conv = 192, gate = 256;  // 3 x 16 x 4, and 16 x 8 twice
  EXPECT_EQ(parameter_count(*make_mixer("kda", shape, {{"short_conv", "false", ""}})), base - conv);
  EXPECT_EQ(parameter_count(*make_mixer("kda", shape, {{"output_gate", "none", ""}})), base - gate);
  EXPECT_EQ(parameter_count(*make_mixer("kda", shape, {{"output_gate", "swish", ""}})), base);
  EXPECT_EQ(make_mixer("kda", shape, {{"value_heads", "4", ""}, {"short_conv", "false", ""}})->state_bytes(1),
            4 * 8 * 8 * 4);
  EXPECT_EQ(make_mixer("mamba2", shape, {{"state", "5", ""}, {"groups", "2", ""}})->state_bytes(1),
            2 * 5 * 8 * 4 + 3 * (16 + 2 * 2 * 5) * 4);
}

TEST(Options, EveryCombinationRunsForwardAndBackward) {
  const std::vector<std::vector<Assignment>> variants = {
      {{"output_gate", "swish", ""}, {"short_conv", "false", ""}},
      {{"output_gate", "none", ""}, {"allow_neg_eigval", "true", ""}},
      {{"lower_bound", "-5", ""}, {"value_heads", "4", ""}, {"value_dim", "5", ""}}};
  for (const auto& variant : variants) {
    const auto mixer = make_mixer("kda", {16, 2, 8}, variant);
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
  EXPECT_THROW(make_mixer("kda", {16, 2, 8}, {{"value_heads", "3", ""}}), UsageError);
  EXPECT_THROW(make_mixer("kda", {16, 2, 8}, {{"lower_bound", "-6", ""}}), UsageError);
  EXPECT_THROW(make_mixer("kda", {16, 2, 8}, {{"lower_bound", "1", ""}}), UsageError);
  EXPECT_THROW(make_mixer("kda", {16, 2, 8}, {{"value_dim", "257", ""}}), UsageError);
  EXPECT_THROW(make_mixer("mamba2", {16, 2, 8}, {{"groups", "3", ""}}), UsageError);
  EXPECT_THROW(make_mixer("mamba2", {16, 2, 8}, {{"groups", "0", ""}}), UsageError);
  EXPECT_THROW(make_mixer("kda", {16, 2, 8}, {{"output_gate", "tanh", ""}}), UsageError);
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
  EXPECT_EQ(account(model, 13).parameters, parameter_count(*model));
}

TEST(Decoder, DrawsTheSameParametersFromTheSameSeedAlone) {
  const ModelConfig config = model_config({});
  Decoder a(config, 7), b(config, 7), c(config, 7);
  a->initialise(at::make_generator<at::CPUGeneratorImpl>(1));
  torch::manual_seed(99);  // the global generator has no effect
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

// The README's table must match the registry.
TEST(Registry, KernelsAreThoseOfTheReadme) {
  std::ifstream file(std::string(KLAB_SOURCE) + "/README.md");
  ASSERT_TRUE(file.good());
  std::map<std::string, std::string> rows;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("| `", 0) != 0) continue;
    for (const MixerEntry& entry : mixers().entries()) {
      if (line.substr(0, line.find('|', 1)).find("`" + entry.name + "`") != std::string::npos) rows[entry.name] = line;
    }
  }
  EXPECT_GE(rows.size(), 18u);
  for (const auto& [name, row] : rows) {
    EXPECT_NE(row.find("| " + mixers().at(name).kernel + " |"), std::string::npos) << name;
  }
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
