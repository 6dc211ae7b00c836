// SPDX-License-Identifier: Apache-2.0
#include "core/model/decoder.h"

#include <torch/nn/module.h>

#include "core/model/activation_checkpoint.h"

namespace klab {

using torch::Tensor;

DecoderLayerImpl::DecoderLayerImpl(const ModelConfig& config, const std::string& item, int64_t layer,
                                   const std::shared_ptr<RankGroup>& expert_ranks)
    : mixer_norm_(register_module("mixer_norm", RmsNorm(config.width, config.norm_eps))),
      mlp_norm_(register_module("mlp_norm", RmsNorm(config.width, config.norm_eps))),
      mixer_(register_module("mixer", config.make_mixer(item, layer))),
      feed_forward_(register_module("mlp", config.make_feed_forward(layer, expert_ranks))) {}

Tensor DecoderLayerImpl::forward(const Tensor& x, const Sequences& sequences, State* state) {
  const Tensor mixed = x + mixer_->forward(mixer_norm_->forward(x), sequences, state);
  return mixed + feed_forward_->forward(mlp_norm_->forward(mixed));
}

DecoderImpl::DecoderImpl(const ModelConfig& config, int64_t vocabulary, std::shared_ptr<RankGroup> expert_ranks)
    : config_(config),
      expert_ranks_(expert_ranks != nullptr && !expert_ranks->alone() ? std::move(expert_ranks) : nullptr),
      embedding_(register_parameter("embedding", new_parameter({vocabulary, config.width}))),
      norm_(RmsNorm(config.width, config.norm_eps)),
      lm_head_(Linear(config.width, vocabulary)) {
  const std::vector<std::string> items = config.layer_mixers();
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string& item = items[static_cast<size_t>(layer)];
    layers_.push_back(
        register_module("layer" + std::to_string(layer), DecoderLayer(config, item, layer, expert_ranks_)));
  }
  register_module("norm", norm_);
  register_module("lm_head", lm_head_);
}

void DecoderImpl::initialise(const at::Generator& generator) {
  const torch::NoGradGuard no_grad;
  for (auto& item : named_parameters()) {
    Tensor parameter = item.value();
    // Experts of other ranks are drawn too, so that all others are what they would be on one rank.
    if (parameter.is_meta() && !embedding_.is_meta()) parameter = torch::empty(parameter.sizes(), embedding_.options());
    if (item.key() == "embedding") {
      parameter.normal_(0, 1, generator);
    } else if (parameter.dim() == 2) {
      const double bound = 1 / std::sqrt(static_cast<double>(parameter.size(1)));
      parameter.uniform_(-bound, bound, generator);
    }
  }
  for (const DecoderLayer& layer : layers_) layer->mixer()->initialise(generator);
}

Tensor DecoderImpl::through_layer(size_t layer, const Tensor& x, const Sequences& sequences, State* state) {
  DecoderLayer one = layers_[layer];
  if (!activation_checkpointing_ || !torch::GradMode::is_enabled() || state != nullptr) {
    return one->forward(x, sequences, state == nullptr ? nullptr : &state->parts.at(layer));
  }
  const auto forward = [one, sequences](const Tensor& input) mutable {
    return one->forward(input, sequences, nullptr);
  };
  return checkpointed(*one, forward, x);
}

Tensor DecoderImpl::hidden(const Tensor& tokens, const Sequences& sequences, State* state) {
  // Activations have the dtype of the norms; the embedding may be stored in a narrower one.
  Tensor x = torch::embedding(embedding_, tokens).to(norm_->weight.scalar_type());
  for (size_t i = 0; i < layers_.size(); ++i) x = through_layer(i, x, sequences, state);
  return norm_->forward(x);
}

Tensor DecoderImpl::hidden_of_padded(const Tensor& tokens, const std::vector<int64_t>& padding, State* state) {
  const int64_t B = tokens.size(0), T = tokens.size(1);
  const Sequences::Unpadded real = Sequences::unpadded(padding, T);
  const Tensor positions = real.positions.to(tokens.device());
  const Tensor packed = hidden(tokens.reshape({-1}).index_select(0, positions).unsqueeze(0), real.sequences, state);
  const Tensor nothing = torch::zeros({B * T, packed.size(2)}, packed.options());
  return nothing.index_copy(0, positions, packed.squeeze(0)).view({B, T, -1});
}

State DecoderImpl::initial_state(int64_t sequences, const torch::Device& device) const {
  State state;
  for (const DecoderLayer& layer : layers_) state.parts.push_back(layer->mixer()->initial_state(sequences, device));
  return state;
}

std::set<std::string> DecoderImpl::expert_parameters() const {
  std::set<std::string> names;
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    for (const std::string& name : layers_[layer]->feed_forward()->expert_parameters()) {
      names.insert("layer" + std::to_string(layer) + ".mlp." + name);
    }
  }
  return names;
}

void DecoderImpl::after_step(RankGroup& ranks) {
  for (const DecoderLayer& layer : layers_) layer->feed_forward()->after_step(ranks);
}

}  // namespace klab
