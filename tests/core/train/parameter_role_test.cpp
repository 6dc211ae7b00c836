// SPDX-License-Identifier: Apache-2.0
#include "core/train/parameter_role.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <regex>
#include <set>

#include "core/base/support.h"
#include "core/model/decoder.h"
#include "core/train/make_optimizer.h"
#include "mixers/registry.h"

namespace klab {
namespace {

using Role = ParameterRole;

// On the meta device: no memory.
Decoder model_of(const std::vector<std::string>& pattern, int64_t experts) {
  const ParameterPlace nowhere(torch::kMeta, torch::kFloat);
  ModelConfig config(mixers());
  config.layers = static_cast<int64_t>(pattern.size());
  config.width = 32;
  config.heads = 2;
  config.head_dim = 16;
  config.pattern = pattern;
  config.moe.experts = experts;
  config.moe.experts_per_token = 2;
  return Decoder(config, 11);
}

// With "layer0." and "expert3." replaced by "layer." and "expert.".
std::map<std::string, Role> by_kind(const std::map<std::string, Role>& roles) {
  std::map<std::string, Role> kinds;
  for (const auto& [name, role] : roles) {
    const std::string kind = std::regex_replace(name, std::regex("(layer|expert)[0-9]+"), "$1");
    const auto [at, added] = kinds.emplace(kind, role);
    EXPECT_EQ(at->second, role) << name;
  }
  return kinds;
}

TEST(ParameterRole, TellsThoseOfAHybridWithExperts) {
  const Decoder model = model_of({"kda", "mla"}, /*experts=*/4);
  const auto roles = parameter_roles(*model);
  EXPECT_EQ(roles.size(), model->named_parameters().size());
  const std::map<std::string, Role> expected = {
      {"embedding", Role::embedding},
      {"lm_head.weight", Role::head},
      {"norm.weight", Role::vector},
      {"layer.mixer_norm.weight", Role::vector},
      {"layer.mlp_norm.weight", Role::vector},
      {"layer.mixer.q_proj.weight", Role::matrix},
      {"layer.mixer.k_proj.weight", Role::matrix},
      {"layer.mixer.v_proj.weight", Role::matrix},
      {"layer.mixer.o_proj.weight", Role::matrix},
      {"layer.mixer.q_conv.weight", Role::convolution},
      {"layer.mixer.k_conv.weight", Role::convolution},
      {"layer.mixer.v_conv.weight", Role::convolution},
      {"layer.mixer.f_a_proj.weight", Role::matrix},
      {"layer.mixer.f_b_proj.weight", Role::matrix},
      {"layer.mixer.g_a_proj.weight", Role::matrix},
      {"layer.mixer.g_b_proj.weight", Role::matrix},
      {"layer.mixer.b_proj.weight", Role::matrix},
      {"layer.mixer.A_log", Role::vector},
      {"layer.mixer.dt_bias", Role::vector},
      {"layer.mixer.o_norm", Role::vector},
      {"layer.mixer.kv_a_proj.weight", Role::matrix},
      {"layer.mixer.kv_a_norm.weight", Role::vector},
      {"layer.mixer.kv_b_proj.weight", Role::matrix},
      {"layer.mlp.gate_proj.weight", Role::matrix},
      {"layer.mlp.up_proj.weight", Role::matrix},
      {"layer.mlp.down_proj.weight", Role::matrix},
      {"layer.mlp.router.weight", Role::matrix},
      {"layer.mlp.correction_bias", Role::vector},
      {"layer.mlp.expert.gate_proj.weight", Role::matrix},
      {"layer.mlp.expert.up_proj.weight", Role::matrix},
      {"layer.mlp.expert.down_proj.weight", Role::matrix},
      {"layer.mlp.shared.gate_proj.weight", Role::matrix},
      {"layer.mlp.shared.up_proj.weight", Role::matrix},
      {"layer.mlp.shared.down_proj.weight", Role::matrix},
  };
  EXPECT_EQ(by_kind(roles), expected);
  EXPECT_EQ(roles.count("layer1.mlp.expert3.up_proj.weight"), 1u) << "each expert's matrices are their own";
}

// Whatever has more than one dimension is a matrix of a Linear, a convolution or listed here.
TEST(ParameterRole, TellsThoseOfEveryMixer) {
  for (const std::string& mixer : mixers().names()) {
    const Decoder model = model_of({mixer}, 0);
    const auto roles = parameter_roles(*model);
    const auto parameters = model->named_parameters();
    EXPECT_EQ(roles.size(), parameters.size()) << mixer;
    for (const auto& [name, role] : roles) {
      if (parameters[name].dim() < 2) {
        EXPECT_EQ(role, Role::vector) << mixer << " " << name;
      } else if (name.ends_with("conv.weight")) {
        EXPECT_EQ(role, Role::convolution) << mixer << " " << name;
      } else if (name.ends_with("_proj.weight") || std::regex_search(name, std::regex("_map[12].weight$"))) {
        EXPECT_EQ(role, Role::matrix) << mixer << " " << name;
      } else {
        const std::set<std::string> others{"embedding", "lm_head.weight", "r_k",    "B_bias", "C_bias",
                                           "mimo_x",    "mimo_z",         "mimo_o", "L"};
        const std::string own = name.rfind("layer0.mixer.", 0) == 0 ? name.substr(13) : name;
        EXPECT_EQ(others.count(own), 1u) << mixer << " " << name;
        EXPECT_NE(role, Role::matrix) << mixer << " " << name;
      }
    }
  }
}

TEST(ParameterRole, TellsThoseOfHeadwiseHybrids) {
  const auto roles = parameter_roles(*model_of({"kda:1+mla:1"}, 0));
  EXPECT_EQ(roles.at("layer0.mixer.heads0.q_proj.weight"), Role::matrix);
  EXPECT_EQ(roles.at("layer0.mixer.heads0.q_conv.weight"), Role::convolution);
  EXPECT_EQ(roles.at("layer0.mixer.heads1.kv_b_proj.weight"), Role::matrix);
}

TEST(ParameterRole, RefusesWhatItCannotTell) {
  struct Strange : torch::nn::Module {
    Strange() { register_parameter("mystery", torch::ones({3, 4})); }
  };
  struct Outer : torch::nn::Module {
    Outer() { register_module("inner", std::make_shared<Strange>()); }
  } outer;
  const std::string message = message_of<UsageError>([&] { parameter_roles(outer); });
  EXPECT_CONTAINS(message, "inner.mystery [3, 4]");
  TrainConfig config;
  config.optimizer = "muon";
  EXPECT_THROW(make_optimizer(outer, config), UsageError);
  config.optimizer = "adamw";
  EXPECT_NO_THROW(make_optimizer(outer, config)) << "AdamW treats all matrices alike";
}

}  // namespace
}  // namespace klab
