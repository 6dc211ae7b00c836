// SPDX-License-Identifier: Apache-2.0
#include "mixers/attention.h"

#include <torch/nn/module.h>

#include "core/model/context_attention.h"
#include "core/model/context_part.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/rotary.h"
#include "mixers/registry.h"

namespace klab {

using torch::Tensor;

void Attention::Options::visit(Fields& fields) {
  fields("kv_heads", kv_heads, {0, 4096}, "number of key and value heads, a divisor of model.heads; 0: model.heads");
}

void Attention::RopeOptions::visit(Fields& fields) {
  Options::visit(fields);
  fields("rope_base", rope_base, {0, 1e12, Ends::above_least}, "base of the rotary embedding");
}

Attention::Attention(const MixerShape& shape, const Options& options)
    : heads_(shape.heads),
      kv_heads_(options.kv_heads > 0 ? options.kv_heads : shape.heads),
      head_dim_(shape.head_dim),
      q_proj_(register_module("q_proj", Linear(shape.width, heads_ * head_dim_))),
      k_proj_(register_module("k_proj", Linear(shape.width, kv_heads_ * head_dim_))),
      v_proj_(register_module("v_proj", Linear(shape.width, kv_heads_ * head_dim_))),
      o_proj_(register_module("o_proj", Linear(heads_ * head_dim_, shape.width))) {
  require(heads_ % kv_heads_ == 0, "kv_heads", fmt::format("{}", options.kv_heads),
          fmt::format("must divide the {} heads", heads_));
}

RotaryAttention::RotaryAttention(const MixerShape& shape, const Options& options) : Attention(shape, options) {
  require(head_dim_ % 2 == 0, "model.head_dim", fmt::format("{}", head_dim_),
          "must be even: channels are rotated in pairs");
  rope_base_ = options.rope_base;
}

Tensor Attention::mix(const Tensor& x, const Sequences& sequences, State* state) {
  const int64_t B = x.size(0), T = x.size(1);
  Tensor q = q_proj_->forward(x).view({B, T, heads_, head_dim_});
  Tensor k = k_proj_->forward(x).view({B, T, kv_heads_, head_dim_});
  const Tensor v = v_proj_->forward(x).view({B, T, kv_heads_, head_dim_}), g = log_forget(x);
  if (rope_base_ > 0) {
    const Tensor at = positions(sequences, B, T, state, x.device());
    q = kernels::rotary(q, at, rope_base_);
    k = kernels::rotary(k, at, rope_base_);
  }
  const std::vector<Span> all = spans(sequences, B, T, state);
  if (state != nullptr) {
    append(*state, "k", k, all);
    append(*state, "v", v, all);
    if (g.defined()) append(*state, "g", g, all);
  }
  // Over several ranks keys and values come in blocks; with gates, and on a GPU, all that this rank needs at once.
  const bool in_blocks = sequences.part != nullptr && !g.defined() && x.is_cpu();
  const auto past = [&](const Tensor& now) {
    return sequences.part && !in_blocks && now.defined() ? past_rows(*sequences.part, now) : Tensor();
  };
  const Tensor past_k = past(k), past_v = past(v), past_g = past(g);
  const auto keys = [&](const Span& span, const Tensor& now, const Tensor& before, const char* cache) {
    if (!now.defined()) return now;
    return state == nullptr ? with_past(span, now, before) : span.cached(state->caches.at(cache));
  };
  std::vector<Tensor> parts;
  for (const Span& span : all) {
    if (in_blocks && span.start == 0) {
      parts.push_back(attend_to_all_ranks({q, k, v}, sequences, span.tokens));
      continue;
    }
    parts.push_back(
        attend({span.of(q), keys(span, k, past_k, "k"), keys(span, v, past_v, "v"), keys(span, g, past_g, "g")}));
  }
  return o_proj_->forward(join_spans(all, parts).reshape({B, T, heads_ * head_dim_}));
}

// The queries of this rank's first sequence, of `first` tokens.
Tensor Attention::attend_to_all_ranks(const kernels::AttentionInputs& in, const Sequences& sequences, int64_t first) {
  if (!records()) return context_attention(sequences.part, in, first, nullptr);
  record({in.q.narrow(1, 0, first), in.k.narrow(1, 0, first), in.v.narrow(1, 0, first)});
  return context_attention(sequences.part, in, first, [&](const kernels::AttentionInputs& seen) { record(seen); });
}

void Attention::scale_logits(const Tensor& factors) {
  const bool own_keys = kv_heads_ == heads_;
  scale_rows(q_proj_->weight, own_keys ? factors.sqrt() : factors, 0, head_dim_);
  if (own_keys) scale_rows(k_proj_->weight, factors.sqrt(), 0, head_dim_);
}

void Attention::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  const auto options = torch::TensorOptions(q_proj_->input_dtype()).device(device);
  state.caches["k"] = torch::empty({sequences, 0, kv_heads_, head_dim_}, options);
  state.caches["v"] = torch::empty({sequences, 0, kv_heads_, head_dim_}, options);
}

double Attention::flops(int64_t tokens) const {
  return static_cast<double>(tokens) * linear_flops(*this) +
         static_cast<double>(heads_) * kernels::attention_flops(tokens, 0, head_dim_, head_dim_);
}

double Attention::decode_flops(int64_t tokens) const {
  return linear_flops(*this) + static_cast<double>(heads_) * kernels::attention_flops(1, tokens, head_dim_, head_dim_);
}

MixerEntry attention_mixer() {
  return mixer_entry<Attention>("attention", "grouped-query softmax attention without positions (NoPE)", "attention");
}

MixerEntry attention_rope_mixer() {
  return mixer_entry<RotaryAttention>("attention_rope", "grouped-query softmax attention with rotary positions",
                                      "attention");
}

}  // namespace klab
