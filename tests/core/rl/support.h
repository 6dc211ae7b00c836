// SPDX-License-Identifier: Apache-2.0
// Small policies and questions for tests of reinforcement learning.
#pragma once

#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "core/model/decoder.h"
#include "core/rl/rl_trainer.h"
#include "mixers/registry.h"

namespace klab {

constexpr int64_t kWords = 7;
constexpr int64_t kEnd = 6;

inline Decoder small_policy(const std::string& pattern, double scale = 0.3) {
  ModelConfig config(mixers());
  assign(config, {{"pattern", pattern, ""}, {"width", 16, ""}, {"heads", 2, ""}, {"head_dim", 8, ""}});
  Decoder model(config, kWords);
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(3);
  const torch::NoGradGuard no_grad;
  model->initialise(generator);
  for (const auto& parameter : model->parameters()) parameter.add_(scale * torch::randn(parameter.sizes(), generator));
  return model;
}

inline std::string word(int64_t token) { return "w" + std::to_string(token); }

/// Prompts of lengths 1 to 5.
inline std::vector<Prompt> some_prompts(int64_t count) {
  std::vector<Prompt> prompts;
  for (int64_t i = 0; i < count; ++i) {
    Prompt prompt{{}, {0, kEnd}};
    for (int64_t j = 0; j <= i % 5; ++j) prompt.tokens.push_back((3 * i + j) % (kWords - 1));
    prompts.push_back(prompt);
  }
  return prompts;
}

}  // namespace klab
