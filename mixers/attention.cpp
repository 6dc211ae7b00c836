// SPDX-License-Identifier: Apache-2.0
#include "mixers/attention.h"

#include <torch/nn/module.h>

#include <algorithm>

#include "core/model/context_attention.h"
#include "core/model/context_part.h"
#include "core/model/window.h"
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

Attention::Attention(const MixerShape& shape, const Options& options) : Attention(shape, options, Variant{}) {}

Attention::Attention(const MixerShape& shape, const Options& options, const Variant& variant)
    : heads_(shape.heads),
      kv_heads_(options.kv_heads > 0 ? options.kv_heads : shape.heads),
      head_dim_(shape.head_dim),
      variant_(variant),
      q_proj_(register_module("q_proj", Linear(shape.width, (variant.output_gate ? 2 : 1) * heads_ * head_dim_))),
      k_proj_(register_module("k_proj", Linear(shape.width, kv_heads_ * head_dim_))),
      v_proj_(register_module("v_proj", Linear(shape.width, kv_heads_ * head_dim_))),
      o_proj_(register_module("o_proj", Linear(heads_ * head_dim_, shape.width))) {
  require(heads_ % kv_heads_ == 0, "kv_heads", fmt::format("{}", options.kv_heads),
          fmt::format("must divide the {} heads", heads_));
  if (variant.qk_norm) {
    q_norm_ = register_module("q_norm", RmsNorm(head_dim_, shape.norm_eps));
    k_norm_ = register_module("k_norm", RmsNorm(head_dim_, shape.norm_eps));
  }
}

RotaryAttention::RotaryAttention(const MixerShape& shape, const Options& options)
    : Attention(shape, options, {.rope_base = options.rope_base, .rope_dim = shape.head_dim}) {
  require(head_dim_ % 2 == 0, "model.head_dim", fmt::format("{}", head_dim_),
          "must be even: channels are rotated in pairs");
}

Tensor Attention::rotated(const Tensor& x, const Tensor& at) const {
  const int64_t rotated = variant_.rope_dim, other = head_dim_ - rotated;
  const Tensor turned = kernels::rotary(x.narrow(3, 0, rotated), at, variant_.rope_base);
  return other == 0 ? turned : torch::cat({turned, x.narrow(3, rotated, other)}, 3);
}

Tensor Attention::mix(const Tensor& x, const Sequences& sequences, State* state) {
  const int64_t B = x.size(0), T = x.size(1);
  const Tensor projected = q_proj_->forward(x).view({B, T, heads_, -1});  // per head: q, then its gate
  kernels::AttentionInputs in{projected.narrow(3, 0, head_dim_), k_proj_->forward(x).view({B, T, kv_heads_, head_dim_}),
                              with_first_values(v_proj_->forward(x).view({B, T, kv_heads_, head_dim_})), log_forget(x)};
  if (q_norm_) {
    in.q = q_norm_->forward(in.q);
    in.k = k_norm_->forward(in.k);
  }
  if (variant_.rope_base > 0) {
    const Tensor at = positions(sequences, B, T, state, x.device());
    in.q = rotated(in.q, at);
    in.k = rotated(in.k, at);
  }
  Tensor o = variant_.window > 0 ? over_windows(in, sequences, state) : over_spans(in, sequences, state);
  if (variant_.output_gate) o = o * torch::sigmoid(projected.narrow(3, head_dim_, head_dim_));
  return o_proj_->forward(o.reshape({B, T, heads_ * head_dim_}));
}

Tensor Attention::over_spans(const kernels::AttentionInputs& in, const Sequences& sequences, State* state) {
  const std::vector<Span> all = spans(sequences, in.q.size(0), in.q.size(1), state);
  if (state != nullptr) {
    append(*state, "k", in.k, all);
    append(*state, "v", in.v, all);
    if (in.g.defined()) append(*state, "g", in.g, all);
  }
  // Over several ranks keys and values come in blocks; with gates, and on a GPU, all that this rank needs at once.
  const bool in_blocks = sequences.part != nullptr && !in.g.defined() && in.q.is_cpu();
  const auto past = [&](const Tensor& now) {
    return sequences.part && !in_blocks && now.defined() ? past_rows(*sequences.part, now) : Tensor();
  };
  const Tensor past_k = past(in.k), past_v = past(in.v), past_g = past(in.g);
  const auto keys = [&](const Span& span, const Tensor& now, const Tensor& before, const char* cache) {
    if (!now.defined()) return now;
    return state == nullptr ? with_past(span, now, before) : span.cached(state->caches.at(cache));
  };
  std::vector<Tensor> parts;
  for (const Span& span : all) {
    if (in_blocks && span.start == 0) {
      parts.push_back(attend_to_all_ranks(in, sequences, span.tokens));
      continue;
    }
    parts.push_back(attend(
        {span.of(in.q), keys(span, in.k, past_k, "k"), keys(span, in.v, past_v, "v"), keys(span, in.g, past_g, "g")}));
  }
  return join_spans(all, parts);
}

Tensor Attention::over_windows(const kernels::AttentionInputs& in, const Sequences& sequences, State* state) {
  const int64_t window = variant_.window;
  const std::vector<Span> all = spans(sequences, in.q.size(0), in.q.size(1), state);
  const auto rows = [&](const char* name) {
    return state->tensors.at(name).unflatten(2, {kv_heads_, head_dim_});  // [N, window, HK, K]
  };
  const auto move = [&] {
    state->tensors["k"] = moved_window(all, in.k, rows("k")).flatten(2);
    state->tensors["v"] = moved_window(all, in.v, rows("v")).flatten(2);
  };
  const bool one_token = std::all_of(all.begin(), all.end(), [](const Span& span) { return span.tokens == 1; });
  if (state != nullptr && one_token && !torch::GradMode::is_enabled()) {  // reads the window where it is
    move();
    std::vector<Tensor> parts;
    for (const Span& span : all) {
      parts.push_back(attend({span.of(in.q), rows_after(span, rows("k")), rows_after(span, rows("v"))}));
    }
    return join_spans(all, parts);
  }
  const auto past = [&](const Tensor& now) {
    return sequences.part ? past_rows(*sequences.part, now, window) : Tensor();
  };
  const Tensor past_k = past(in.k), past_v = past(in.v);
  const auto keys = [&](const Span& span, const Tensor& now, const Tensor& before, const char* name) {
    return state == nullptr ? with_past(span, now, before) : with_window(span, now, rows(name));
  };
  std::vector<Tensor> parts;
  for (const Span& span : all) {
    kernels::AttentionInputs some{span.of(in.q), keys(span, in.k, past_k, "k"), keys(span, in.v, past_v, "v")};
    some.window = window;
    parts.push_back(attend(some));
  }
  if (state != nullptr) move();
  return join_spans(all, parts);
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
  if (variant_.window > 0) {
    for (const char* name : {"k", "v"}) {
      state.tensors[name] = torch::zeros({sequences, variant_.window, kv_heads_ * head_dim_}, options);
    }
    return;
  }
  state.caches["k"] = torch::empty({sequences, 0, kv_heads_, head_dim_}, options);
  state.caches["v"] = torch::empty({sequences, 0, kv_heads_, head_dim_}, options);
}

double Attention::flops(int64_t tokens) const {
  return static_cast<double>(tokens) * linear_flops(*this) + attention_flops(tokens, 0);
}

double Attention::decode_flops(int64_t tokens) const { return linear_flops(*this) + attention_flops(1, tokens); }

double Attention::attention_flops(int64_t tokens, int64_t past) const {
  const double head = variant_.window > 0
                          ? kernels::windowed_attention_flops(tokens, past, variant_.window, head_dim_, head_dim_)
                          : kernels::attention_flops(tokens, past, head_dim_, head_dim_);
  return static_cast<double>(heads_) * head;
}

MixerEntry attention_mixer() {
  return mixer_entry<Attention>("attention", "grouped-query softmax attention without positions (NoPE)", "attention");
}

MixerEntry attention_rope_mixer() {
  return mixer_entry<RotaryAttention>("attention_rope", "grouped-query softmax attention with rotary positions",
                                      "attention");
}

}  // namespace klab
