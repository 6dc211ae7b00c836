// SPDX-License-Identifier: Apache-2.0
#include "core/model/decoder.h"

#include <torch/nn/module.h>

#include <algorithm>

#include "core/model/activation_checkpoint.h"

namespace klab {

using torch::Tensor;

DecoderLayerImpl::DecoderLayerImpl(const ModelConfig& config, const std::string& item, int64_t layer,
                                   const std::shared_ptr<RankGroup>& expert_ranks)
    : mixer_norm_(register_module("mixer_norm", RmsNorm(config.width, config.norm_eps))),
      mlp_norm_(register_module("mlp_norm", RmsNorm(config.width, config.norm_eps))),
      mixer_(register_module("mixer", config.make_mixer(item, layer))),
      feed_forward_(register_module("mlp", config.make_feed_forward(layer, expert_ranks))) {
  if (config.sandwich_norm) {
    mixer_post_norm_ = register_module("mixer_post_norm", RmsNorm(config.width, config.norm_eps));
    mlp_post_norm_ = register_module("mlp_post_norm", RmsNorm(config.width, config.norm_eps));
  }
  if (config.has_canon("a")) mixer_canon_ = register_module("mixer_canon", canon_conv(config.width));
  if (config.has_canon("c")) mlp_canon_ = register_module("mlp_canon", canon_conv(config.width));
  if (config.attention_residuals == 0) return;
  opens_block_ = layer % config.attention_residuals == 0;
  blocks_ = (layer + config.attention_residuals - 1) / config.attention_residuals;
  if (layer > 0) {  // the first layer reads the embedding
    mixer_residual_ = register_module("mixer_residual", AttentionResidual(config.width, config.norm_eps));
  }
  mlp_residual_ = register_module("mlp_residual", AttentionResidual(config.width, config.norm_eps));
}

ResidualStream DecoderLayerImpl::forward(ResidualStream in, const Sequences& sequences, State* state) {
  const auto with_canon = [&](const Tensor& x, const ShortConv& conv, const char* name) {
    return conv ? x + conv->forward(x, sequences, state, name) : x;
  };
  const auto normed = [](const Tensor& x, const RmsNorm& norm) { return norm ? norm->forward(x) : x; };

  Tensor x = mixer_residual_ ? mixer_residual_->forward(in.sources()) : in.x;
  if (opens_block_) {
    in.blocks.push_back(in.x);
    in.x.reset();
  }
  x = with_canon(mixer_norm_->forward(x), mixer_canon_, "mixer_canon");
  x = normed(mixer_->forward(x, sequences, state, &in.values), mixer_post_norm_);
  in.x = in.x.defined() ? in.x + x : x;

  x = mlp_residual_ ? mlp_residual_->forward(in.sources()) : in.x;
  x = with_canon(mlp_norm_->forward(x), mlp_canon_, "mlp_canon");
  in.x = in.x + normed(feed_forward_->forward(x, sequences, state), mlp_post_norm_);
  return in;
}

State DecoderLayerImpl::initial_state(int64_t sequences, const torch::Device& device) const {
  State state = mixer_->initial_state(sequences, device);
  if (mixer_canon_) state.tensors["mixer_canon"] = mixer_canon_->initial_state(sequences, device);
  if (mlp_canon_) state.tensors["mlp_canon"] = mlp_canon_->initial_state(sequences, device);
  feed_forward_->add_state(state, sequences, device);
  return state;
}

double DecoderLayerImpl::token_flops() const {
  double sum = feed_forward_->flops();
  for (const ShortConv& conv : {mixer_canon_, mlp_canon_}) sum += conv ? conv->flops_per_token() : 0;
  if (mixer_residual_) sum += mixer_residual_->flops(blocks_ + 1);
  if (mlp_residual_) sum += mlp_residual_->flops(blocks_ + (opens_block_ ? 1 : 0) + 1);
  return sum;
}

double DecoderLayerImpl::flops(int64_t tokens) const {
  return mixer_->flops(tokens) + static_cast<double>(tokens) * token_flops();
}

double DecoderLayerImpl::decode_flops(int64_t tokens) const { return mixer_->decode_flops(tokens) + token_flops(); }

int64_t DecoderLayerImpl::state_bytes(int64_t tokens) const {
  const int64_t convolutions = initial_state(1, torch::kMeta).bytes() - mixer_->initial_state(1, torch::kMeta).bytes();
  return mixer_->state_bytes(tokens) + convolutions;
}

DecoderImpl::DecoderImpl(const ModelConfig& config, int64_t vocabulary, std::shared_ptr<RankGroup> expert_ranks)
    : config_(config),
      expert_ranks_(expert_ranks != nullptr && !expert_ranks->alone() ? std::move(expert_ranks) : nullptr),
      embedding_(register_parameter("embedding", new_parameter({vocabulary, config.width}))),
      norm_(RmsNorm(config.width, config.norm_eps)),
      lm_head_(Linear(config.width, config.tie_embeddings ? 0 : vocabulary)) {
  const std::vector<std::string> items = config.layer_mixers();
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string& item = items[static_cast<size_t>(layer)];
    layers_.push_back(
        register_module("layer" + std::to_string(layer), DecoderLayer(config, item, layer, expert_ranks_)));
  }
  if (config.attention_residuals > 0) {
    output_residual_ = register_module("output_residual", AttentionResidual(config.width, config.norm_eps));
  }
  register_module("norm", norm_);
  if (config.tie_embeddings) {
    lm_head_->weight = embedding_;
  } else {
    register_module("lm_head", lm_head_);
  }
}

void DecoderImpl::initialise(const at::Generator& generator) {
  const torch::NoGradGuard no_grad;
  for (auto& item : named_parameters()) {
    Tensor parameter = item.value();
    // Experts of other ranks are drawn too, so that all others are what they would be on one rank.
    if (parameter.is_meta() && !embedding_.is_meta()) parameter = torch::empty(parameter.sizes(), embedding_.options());
    if (item.key() == "embedding" && !config_.tie_embeddings) {
      parameter.normal_(0, 1, generator);
    } else if (parameter.dim() == 2) {
      const double bound = 1 / std::sqrt(static_cast<double>(parameter.size(1)));
      parameter.uniform_(-bound, bound, generator);
    }
  }
  for (const DecoderLayer& layer : layers_) layer->mixer()->initialise(generator);
}

ResidualStream DecoderImpl::through_layer(size_t layer, const ResidualStream& in, const Sequences& sequences,
                                          State* state) {
  DecoderLayer one = layers_[layer];
  if (!activation_checkpointing_ || !torch::GradMode::is_enabled() || state != nullptr) {
    return one->forward(in, sequences, state == nullptr ? nullptr : &state->parts.at(layer));
  }
  // From x, the values if there are some, and the blocks to x and the values.
  const bool has_values = in.values.defined();
  const auto forward = [one, sequences, has_values](const std::vector<Tensor>& given) mutable {
    ResidualStream stream{
        given[0], {given.begin() + (has_values ? 2 : 1), given.end()}, has_values ? given[1] : Tensor()};
    stream = one->forward(std::move(stream), sequences, nullptr);
    return stream.values.defined() ? std::vector<Tensor>{stream.x, stream.values} : std::vector<Tensor>{stream.x};
  };
  std::vector<Tensor> given{in.x};
  if (has_values) given.push_back(in.values);
  given.insert(given.end(), in.blocks.begin(), in.blocks.end());
  const std::vector<Tensor> results = checkpointed(*one, forward, given);
  ResidualStream out{results[0], in.blocks, results.size() > 1 ? results[1] : Tensor()};
  if (one->opens_block()) out.blocks.push_back(in.x);
  return out;
}

Tensor DecoderImpl::hidden(const Tensor& tokens, const Sequences& sequences, State* state) {
  // Activations have the dtype of the norms; the embedding may be stored in a narrower one.
  ResidualStream stream{torch::embedding(embedding_, tokens).to(norm_->weight.scalar_type()), {}, {}};
  for (size_t i = 0; i < layers_.size(); ++i) stream = through_layer(i, stream, sequences, state);
  return norm_->forward(output_residual_ ? output_residual_->forward(stream.sources()) : stream.x);
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
  for (const DecoderLayer& layer : layers_) state.parts.push_back(layer->initial_state(sequences, device));
  return state;
}

double DecoderImpl::output_residual_flops() const {
  if (!output_residual_) return 0;
  const auto blocks =
      std::count_if(layers_.begin(), layers_.end(), [](const auto& layer) { return layer->opens_block(); });
  return output_residual_->flops(blocks + 1);
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
