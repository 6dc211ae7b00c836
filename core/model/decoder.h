// SPDX-License-Identifier: Apache-2.0
// The decoder stack: embedding, layers of (norm, mixer) and (norm, feed-forward) on a residual stream, norm, head. What
// else models have around the mixers is in DecoderLayer.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/model/attention_residual.h"
#include "core/model/feed_forward.h"
#include "core/model/layers.h"
#include "core/model/model_config.h"
#include "core/model/token_mixer.h"

namespace klab {

/// x + mixer(norm(x)), then the same with the feed-forward. Options of the config add norms after both (sandwich
/// norms), convolutions after the norms before them (Canon layers A and C), and attention residuals, with which both
/// read a mixture of the blocks of layers so far.
class DecoderLayerImpl : public torch::nn::Module {
 public:
  /// `item`: the layer's item of the config's pattern.
  DecoderLayerImpl(const ModelConfig& config, const std::string& item, int64_t layer,
                   const std::shared_ptr<RankGroup>& expert_ranks);
  /// `state`, if not null, is that of initial_state().
  ResidualStream forward(ResidualStream in, const Sequences& sequences, State* state);
  State initial_state(int64_t sequences, const torch::Device& device) const;

  /// Whether the sum so far becomes a block, which this layer and later ones read, and a new sum begins with its
  /// output.
  bool opens_block() const { return opens_block_; }

  /// As in TokenMixer, of the whole layer.
  double flops(int64_t tokens) const;
  double decode_flops(int64_t tokens) const;
  int64_t state_bytes(int64_t tokens) const;

  const std::shared_ptr<TokenMixer>& mixer() const { return mixer_; }
  const std::shared_ptr<FeedForward>& feed_forward() const { return feed_forward_; }

 private:
  double token_flops() const;  // of one token, without the mixer

  RmsNorm mixer_norm_, mlp_norm_;
  std::shared_ptr<TokenMixer> mixer_;
  std::shared_ptr<FeedForward> feed_forward_;
  RmsNorm mixer_post_norm_{nullptr}, mlp_post_norm_{nullptr};
  ShortConv mixer_canon_{nullptr}, mlp_canon_{nullptr};
  AttentionResidual mixer_residual_{nullptr}, mlp_residual_{nullptr};
  bool opens_block_ = false;
  int64_t blocks_ = 0;  // that the mixer reads
};
TORCH_MODULE(DecoderLayer);

class DecoderImpl : public torch::nn::Module {
 public:
  /// `expert_ranks`: over which every mixture of experts is spread, see MixtureOfExperts; null: not at all.
  DecoderImpl(const ModelConfig& config, int64_t vocabulary, std::shared_ptr<RankGroup> expert_ranks = nullptr);

  /// Draws every parameter from `generator`: embeddings N(0, 1), matrices and embeddings that are also the head
  /// U(-1, 1) / sqrt(fan-in), norms 1, then the parameters with their own rules in TokenMixer::initialise.
  void initialise(const at::Generator& generator);

  /// tokens [B, T] int64 to the final hidden states [B, T, D], after the last norm. `state` as in TokenMixer::forward,
  /// one part per layer.
  torch::Tensor hidden(const torch::Tensor& tokens, const Sequences& sequences = {}, State* state = nullptr);

  /// The same for rows whose first `padding[b]` tokens are padding (left padding): no layer processes them, and their
  /// hidden states are zeros.
  torch::Tensor hidden_of_padded(const torch::Tensor& tokens, const std::vector<int64_t>& padding,
                                 State* state = nullptr);

  /// [.., D] to logits [.., vocabulary].
  torch::Tensor head(const torch::Tensor& hidden_states) const { return lm_head_->forward(hidden_states); }
  const torch::Tensor& head_weight() const { return lm_head_->weight; }  // [vocabulary, D]

  torch::Tensor forward(const torch::Tensor& tokens, const Sequences& sequences = {}, State* state = nullptr) {
    return head(hidden(tokens, sequences, state));
  }

  State initial_state(int64_t sequences, const torch::Device& device) const;

  /// FLOPs per token of the attention residual after the last layer; 0 without one.
  double output_residual_flops() const;

  /// Updates parameters without gradients after an optimiser step of `ranks`: the correction biases of routers.
  void after_step(RankGroup& ranks);

  /// The names of the parameters of routed experts, those of other ranks included.
  std::set<std::string> expert_parameters() const;
  const std::shared_ptr<RankGroup>& expert_ranks() const { return expert_ranks_; }

  /// Whether training keeps only the inputs of layers for the backward pass, which then computes each layer again.
  void set_activation_checkpointing(bool on) { activation_checkpointing_ = on; }

  const ModelConfig& config() const { return config_; }

  int64_t vocabulary() const { return embedding_.size(0); }
  torch::Device device() const { return embedding_.device(); }
  const std::vector<DecoderLayer>& layers() const { return layers_; }

 private:
  ResidualStream through_layer(size_t layer, const ResidualStream& x, const Sequences& sequences, State* state);

  ModelConfig config_;
  std::shared_ptr<RankGroup> expert_ranks_;  // null or several
  bool activation_checkpointing_ = false;
  torch::Tensor embedding_;  // [vocabulary, D]
  std::vector<DecoderLayer> layers_;
  AttentionResidual output_residual_{nullptr};
  RmsNorm norm_;
  Linear lm_head_;  // with tied embeddings, its weight is the embedding
};
TORCH_MODULE(Decoder);

}  // namespace klab
