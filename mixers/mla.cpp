// SPDX-License-Identifier: Apache-2.0
#include "mixers/mla.h"

#include <torch/nn/module.h>

#include "core/model/context_part.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/latent_attention.h"
#include "kernels/attention/rotary.h"
#include "mixers/registry.h"

namespace klab {
namespace {

using torch::Tensor;

// Up to this many new tokens the absorbed form is faster over a long cache: at the public widths it needs about 3.4
// times the FLOPs per query-key pair, but does not expand the cache, which costs as much as 170 queries.
constexpr int64_t kAbsorbedTokens = 64;
constexpr int64_t kPastBlock = 4096;  // cached tokens expanded at a time

}  // namespace

void Mla::Options::visit(Fields& fields) {
  fields("heads", heads, {0, 4096}, "number of heads; 0: model.heads");
  fields("nope_dim", nope_dim, {0, 8192}, "width of the per-head part of queries and keys; 0: model.head_dim");
  fields("rope_dim", rope_dim, {-1, 8192},
         "width of the key part shared by all heads; -1: half of model.head_dim, rounded up to even");
  fields("value_dim", value_dim, {0, 8192}, "width of a value head; 0: model.head_dim");
  fields("kv_lora_rank", kv_lora_rank, {0, 1 << 20}, "width of the cached latent; 0: 4 x model.head_dim");
  fields.renamed("latent", "kv_lora_rank");
  fields("q_lora_rank", q_lora_rank, {0, 1 << 20}, "rank of the query projection; 0: full");
  fields.renamed("query_rank", "q_lora_rank");
  fields("norm_eps", norm_eps, {0, 1, Ends::above_least}, "eps of the latent's norm (always 1e-6 in the public code)");
}

void Mla::RopeOptions::visit(Fields& fields) {
  Options::visit(fields);
  fields("rope_base", rope_base, {0, 1e12, Ends::above_least}, "base of the rotary embedding");
}

Mla::Mla(const MixerShape& shape, const Options& options)
    : rope_dim_(options.rope_dim >= 0 ? options.rope_dim : (shape.head_dim + 3) / 4 * 2),
      heads_(options.heads > 0 ? options.heads : shape.heads),
      value_dim_(options.value_dim > 0 ? options.value_dim : shape.head_dim),
      nope_dim_(options.nope_dim > 0 ? options.nope_dim : shape.head_dim),
      latent_(options.kv_lora_rank > 0 ? options.kv_lora_rank : 4 * shape.head_dim),
      kv_a_proj_(register_module("kv_a_proj", Linear(shape.width, latent_ + rope_dim_))),
      kv_a_norm_(register_module("kv_a_norm", RmsNorm(latent_, options.norm_eps))),
      kv_b_proj_(register_module("kv_b_proj", Linear(latent_, heads_ * (nope_dim_ + value_dim_)))),
      o_proj_(register_module("o_proj", Linear(heads_ * value_dim_, shape.width))) {
  const int64_t queries = heads_ * (nope_dim_ + rope_dim_);
  if (options.q_lora_rank == 0) {
    q_proj_ = register_module("q_proj", Linear(shape.width, queries));
  } else {
    q_a_proj_ = register_module("q_a_proj", Linear(shape.width, options.q_lora_rank));
    q_a_norm_ = register_module("q_a_norm", RmsNorm(options.q_lora_rank, options.norm_eps));
    q_b_proj_ = register_module("q_b_proj", Linear(options.q_lora_rank, queries));
  }
}

RotaryMla::RotaryMla(const MixerShape& shape, const Options& options) : Mla(shape, options) {
  require(rope_dim_ >= 2 && rope_dim_ % 2 == 0, "rope_dim", fmt::format("{}", rope_dim_),
          "must be even and positive: channels are rotated in pairs");
  rope_base_ = options.rope_base;
}

Tensor Mla::query(const Tensor& x) const {
  const Tensor q = q_proj_ ? q_proj_->forward(x) : q_b_proj_->forward(q_a_norm_->forward(q_a_proj_->forward(x)));
  return q.view({x.size(0), x.size(1), heads_, nope_dim_ + rope_dim_});
}

Tensor Mla::mix(const Tensor& x, const Sequences& sequences, State* state) {
  const int64_t B = x.size(0), T = x.size(1);
  Tensor q = query(x);                         // [B, T, H, nope + rope]
  const Tensor down = kv_a_proj_->forward(x);  // [B, T, latent + rope]
  const Tensor latent = kv_a_norm_->forward(down.narrow(2, 0, latent_));
  Tensor shared = down.narrow(2, latent_, rope_dim_);
  if (rope_base_ > 0) {
    const Tensor at = positions(sequences, B, T, state, x.device());
    q = torch::cat({q.narrow(3, 0, nope_dim_), kernels::rotary(q.narrow(3, nope_dim_, rope_dim_), at, rope_base_)}, 3);
    shared = kernels::rotary(shared.unsqueeze(2), at, rope_base_).squeeze(2);
  }
  const Tensor rows = torch::cat({latent, shared}, 2);
  const std::vector<Span> all = spans(sequences, B, T, state);
  if (state != nullptr) append(*state, "latent", rows, all);
  const Tensor past = sequences.part ? past_rows(*sequences.part, rows) : Tensor();
  std::vector<Tensor> parts;
  for (const Span& span : all) {
    const Tensor queries = span.of(q),
                 keys = state == nullptr ? with_past(span, rows, past) : span.cached(state->caches.at("latent"));
    if (state == nullptr || torch::GradMode::is_enabled() || span.past == 0) {
      parts.push_back(attend(expand(queries, keys)));
    } else {
      parts.push_back(span.tokens <= kAbsorbedTokens ? absorbed(queries, keys) : over_past(queries, keys));
    }
  }
  const Tensor o = join_spans(all, parts).reshape({B, T, heads_ * value_dim_});
  const Linear gate = output_gate();
  return o_proj_->forward(gate ? o * torch::sigmoid(gate->forward(x)) : o);
}

// Attention inputs of q [B, T, H, nope + rope] and the expanded keys and values of every head.
kernels::AttentionInputs Mla::expand(const Tensor& q, const Tensor& rows) const {
  const int64_t B = rows.size(0), S = rows.size(1);
  const Tensor up = kv_b_proj_->forward(rows.narrow(2, 0, latent_)).view({B, S, heads_, nope_dim_ + value_dim_});
  const Tensor shared = rows.narrow(2, latent_, rope_dim_).unsqueeze(2).expand({B, S, heads_, rope_dim_});
  return {q, torch::cat({up.narrow(3, 0, nope_dim_), shared}, 3), up.narrow(3, nope_dim_, value_dim_)};
}

// Expands the cache one block at a time, so that the memory for it does not grow with its length.
Tensor Mla::over_past(const Tensor& q, const Tensor& rows) const {
  if (q.is_cuda()) return kernels::attention(expand(q, rows));  // partial attention is CPU-only
  const int64_t T = q.size(1), past = rows.size(1) - T;
  kernels::PartialAttention sum = kernels::partial_attention(expand(q, rows.narrow(1, past, T)), /*causal=*/true);
  for (int64_t start = 0; start < past; start += kPastBlock) {
    const Tensor block = rows.narrow(1, start, std::min(kPastBlock, past - start));
    sum = kernels::join(sum, kernels::partial_attention(expand(q, block), /*causal=*/false));
  }
  return sum.o;
}

Tensor Mla::absorbed(const Tensor& q, const Tensor& rows) const {
  const int64_t B = q.size(0), T = q.size(1);
  const Tensor up = kv_b_proj_->weight.view({heads_, nope_dim_ + value_dim_, latent_});
  const auto by_head = [&](const Tensor& x) { return x.permute({2, 0, 1, 3}).reshape({heads_, B * T, -1}); };
  const auto by_token = [&](const Tensor& x) { return x.view({heads_, B, T, -1}).permute({1, 2, 0, 3}); };
  const Tensor content = torch::bmm(by_head(q.narrow(3, 0, nope_dim_)), up.narrow(1, 0, nope_dim_));
  const Tensor queries = torch::cat({by_token(content), q.narrow(3, nope_dim_, rope_dim_)}, 3);
  const double scale = 1 / std::sqrt(static_cast<double>(nope_dim_ + rope_dim_));
  const Tensor read = kernels::latent_attention({queries, rows, latent_, scale});  // [B, T, H, latent]
  return by_token(torch::bmm(by_head(read), up.narrow(1, nope_dim_, value_dim_).transpose(1, 2)));
}

void Mla::scale_logits(const Tensor& factors) {
  const Tensor& queries = q_proj_ ? q_proj_->weight : q_b_proj_->weight;
  scale_rows(queries, factors.sqrt(), 0, nope_dim_);
  scale_rows(queries, factors, nope_dim_, rope_dim_);
  scale_rows(kv_b_proj_->weight, factors.sqrt(), 0, nope_dim_);
}

void Mla::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  state.caches["latent"] = torch::empty({sequences, 0, latent_ + rope_dim_},
                                        kv_a_norm_->weight.options().device(device).requires_grad(false));
}

double Mla::flops(int64_t tokens) const {
  return static_cast<double>(tokens) * linear_flops(*this) +
         static_cast<double>(heads_) * kernels::attention_flops(tokens, 0, nope_dim_ + rope_dim_, value_dim_);
}

double Mla::decode_flops(int64_t tokens) const {
  // Absorbing W_kvb into one query and one output costs the same as expanding one token.
  return linear_flops(*this) + kernels::latent_attention_flops(heads_, tokens + 1, latent_, rope_dim_);
}

MixerEntry mla_mixer() {
  return mixer_entry<Mla>("mla", "latent attention without positions (NoPE)", "attention; latent_attention for decode");
}

MixerEntry mla_rope_mixer() {
  return mixer_entry<RotaryMla>("mla_rope", "latent attention with rotary positions",
                                "attention; latent_attention for decode");
}

}  // namespace klab
