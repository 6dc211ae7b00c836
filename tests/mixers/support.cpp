// SPDX-License-Identifier: Apache-2.0
#include "mixers/support.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <cctype>

namespace klab {
namespace {

// Windows shorter than the tests' sequences.
void narrow_windows(ModelConfig& config) {
  const std::vector<std::string> items = config.layer_mixers();
  const auto slides = [](const std::string& item) { return item.find("sliding_attention") != std::string::npos; };
  if (std::any_of(items.begin(), items.end(), slides)) assign(config, {{"sliding_attention.window", 5, "test"}});
}

}  // namespace

std::shared_ptr<TokenMixer> test_mixer(const std::string& item, torch::ScalarType dtype) {
  ModelConfig config(mixers());
  assign(config, {{"pattern", item, ""},
                  {"width", kTestShape.width, ""},
                  {"heads", kTestShape.heads, ""},
                  {"head_dim", kTestShape.head_dim, ""}});
  narrow_windows(config);
  const std::shared_ptr<TokenMixer> mixer = config.make_mixer(item);
  const torch::NoGradGuard no_grad;
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(7);
  for (const auto& parameter : mixer->parameters()) {
    if (parameter.dim() == 2) parameter.normal_(0, 0.3, generator);
  }
  mixer->initialise(generator);
  // Initial values such as ones, zeros and equal matrices could hide errors.
  for (const auto& parameter : mixer->parameters()) {
    parameter.add_(0.1 * torch::randn(parameter.sizes(), generator));
  }
  mixer->to(dtype);
  return mixer;
}

std::shared_ptr<TokenMixer> make_mixer(const std::string& name, const MixerShape& shape,
                                       const std::vector<Assignment>& options) {
  const MixerEntry& entry = mixers().at(name);
  AnyConfig chosen = entry.options;
  assign(chosen.get(), options);
  return entry.make(shape, chosen);
}

ModelConfig model_config(const std::vector<Assignment>& assignments) {
  ModelConfig config(mixers());
  assign(config, assignments);
  const auto sets_window = [](const Assignment& one) { return one.key == "sliding_attention.window"; };
  if (std::none_of(assignments.begin(), assignments.end(), sets_window)) narrow_windows(config);
  config.validate();
  return config;
}

std::string test_name(const testing::TestParamInfo<std::string>& test) {
  std::string name = test.param;
  const auto is_other = [](unsigned char c) { return std::isalnum(c) == 0; };
  std::replace_if(name.begin(), name.end(), is_other, '_');
  return name;
}

}  // namespace klab
