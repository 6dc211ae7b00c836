// SPDX-License-Identifier: Apache-2.0
#include "core/train/rank_traffic.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <set>

#include "core/model/decoder.h"
#include "core/train/optimizer.h"

namespace klab {
namespace {

double number(int64_t count) { return static_cast<double>(count); }

// The share of numbers that leave a rank when they are distributed evenly over `ranks`.
double leaving(int64_t ranks) { return number(ranks - 1) / number(ranks); }

class Traffic {
 public:
  Traffic(const ModelConfig& config, int64_t vocabulary, const TrainConfig& train, int64_t sequences, int64_t length,
          const RankLayout& layout)
      : layout_(layout), train_(train), length_(length), model_(without_memory(config, vocabulary, train)) {
    layout.validate();
    const int64_t parts = layout.own_parts(train.accumulate) * layout.shares();
    require(sequences >= parts, "train.batch", fmt::format("{}", sequences),
            fmt::format("must be at least {}: every rank computes at least one sequence", parts));
    sequences_ = (sequences - 1) / parts + 1;
    // The layers run for the backward pass too with activation checkpointing.
    passes_ = number(layout.own_parts(train.accumulate)) * (train.activation_checkpointing ? 3 : 2);
  }

  RankTraffic bytes() const {
    RankTraffic sum;
    add_gradients(sum);
    for (const DecoderLayer& layer : model_->layers()) {
      sum.experts += of_experts(*layer->feed_forward());
      if (layout_.context > 1) sum.context += of_layer(*layer);
    }
    return sum;
  }

 private:
  static Decoder without_memory(const ModelConfig& config, int64_t vocabulary, const TrainConfig& train) {
    const ParameterPlace nowhere(torch::kMeta, train.step_dtype());
    return Decoder(config, vocabulary);
  }

  // Every rank receives what it owns from all others and sends the sum to all others, in float32, or the new weights,
  // in the dtype that computes.
  void add_gradients(RankTraffic& sum) const {
    const std::set<std::string> experts = model_->expert_parameters();
    constexpr double kFloat = 4;
    for (const TrainedParameter& one : trained_parameters(*model_)) {
      const bool spread = layout_.experts > 1 && experts.contains(one.name);
      const double sent = spread ? leaving(layout_.replicas()) / number(layout_.experts) : leaving(layout_.ranks);
      const double gradients = kFloat * number(one.tensor.numel() + 1);  // and whether there is one
      sum.gradients += sent * gradients * (layout_.zero ? 1 : 2);
      if (layout_.zero) sum.weights += sent * number(static_cast<int64_t>(one.tensor.nbytes()));
    }
  }

  double tokens() const { return number(sequences_ * length_) / number(layout_.context); }

  double of_experts(const FeedForward& layer) const {
    const MoeConfig& moe = model_->config().moe;
    if (layout_.experts == 1 || layer.expert_parameters().empty()) return 0;
    const double rows = tokens() * number(moe.experts_per_token) * leaving(layout_.experts);
    const int64_t width = moe.latent_width > 0 ? moe.latent_width : model_->config().width;
    const double there_and_back = 2 * rows * number(width) * element_size();
    const double counts = number(8 * moe.experts * (layout_.experts - 1));  // in forward passes
    return passes_ * there_and_back + (passes_ - parts()) * counts;
  }

  double element_size() const { return train_.step_dtype() == torch::kFloat ? 4 : 2; }

  double parts() const { return number(layout_.own_parts(train_.accumulate)); }

  // Keys and values without gates come in blocks, and in the backward pass once more (context_attention.h).
  static bool come_in_blocks(const State& state) { return state.caches.contains("k") && !state.caches.contains("g"); }

  double of_layer(const DecoderLayerImpl& layer) const {
    return of_state(layer.initial_state(1, torch::kMeta)) +
           passes_ * past_rows(length_) * number(layer.mixer()->row_bytes_of_part());
  }

  // What a layer with this state sends.
  double of_state(const State& state) const {
    double sum = 0;
    for (const auto& [name, x] : state.tensors) {
      if (x.dim() == 4) {  // a memory [1, HV, K, V]: its summary to all ranks
        sum += passes_ *
               number((layout_.context - 1) * x.size(1) * x.size(2) * (x.size(2) + x.size(3)) * x.element_size());
      } else if (x.dim() == 3) {  // inputs [1, count, D] of a convolution, or rows of a window
        sum += passes_ * past_rows(x.size(1)) * number(x.size(2) * x.element_size());
      }
    }
    for (const auto& [name, x] : state.caches) {  // [1, 0, ..]
      sum += (passes_ + (come_in_blocks(state) ? parts() : 0)) * past_rows(length_) *
             number(c10::multiply_integers(x.sizes().slice(2))) * element_size();
    }
    for (const State& part : state.parts) sum += of_state(part);
    return sum;
  }

  // Rows before a rank's part that belong to its first sequence, up to `most`: the mean over ranks.
  double past_rows(int64_t most) const {
    const int64_t all = sequences_ * length_;
    int64_t sum = 0;
    for (int64_t rank = 0; rank < layout_.context; ++rank) {
      sum += std::min(most, rank * all / layout_.context % length_);
    }
    return number(sum) / number(layout_.context);
  }

  const RankLayout& layout_;
  const TrainConfig& train_;
  int64_t length_, sequences_ = 0;  // in a part of a step, on the ranks that share its sequences
  double passes_ = 0;               // forward and backward passes of a step
  Decoder model_;
};

}  // namespace

RankTraffic predict_rank_traffic(const ModelConfig& model, int64_t vocabulary, const TrainConfig& train,
                                 int64_t sequences, int64_t length, const RankLayout& layout) {
  return Traffic(model, vocabulary, train, sequences, length, layout).bytes();
}

}  // namespace klab
