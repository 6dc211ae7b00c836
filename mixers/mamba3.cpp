// SPDX-License-Identifier: Apache-2.0
#include "mixers/mamba3.h"

#include <torch/nn/module.h>

#include <numbers>

#include "core/model/context_part.h"
#include "core/model/token_shift.h"
#include "kernels/common/checks.h"
#include "kernels/recurrence/recurrence_cost.h"
#include "mixers/gates.h"
#include "mixers/linear_mixer.h"
#include "mixers/registry.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr double kSlowestRate = 1e-4;

// Rotates the first pairs of adjacent channels of x [B, T, R, H, K] by angle [B, T, H, pairs].
Tensor rotated(const Tensor& x, const Tensor& angle) {
  const int64_t width = 2 * angle.size(-1);
  if (width == 0) return x;
  const Tensor pairs = x.narrow(-1, 0, width).unflatten(-1, {width / 2, 2});
  const Tensor first = pairs.select(-1, 0), second = pairs.select(-1, 1);
  const Tensor cosine = angle.cos().to(x.scalar_type()).unsqueeze(2),
               sine = angle.sin().to(x.scalar_type()).unsqueeze(2);
  const Tensor turned = torch::stack({first * cosine - second * sine, first * sine + second * cosine}, -1).flatten(-2);
  return torch::cat({turned, x.narrow(-1, width, x.size(-1) - width)}, -1);
}

// The sequences of a batch with `rows` rows per token.
Sequences with_rows_per_token(const Sequences& sequences, int64_t rows) {
  Sequences result = sequences;
  if (sequences.cu_seqlens.defined()) result.cu_seqlens = sequences.cu_seqlens * rows;
  if (sequences.part) {
    ContextPart part = *sequences.part;
    for (int64_t& cut : part.cuts) cut *= rows;
    for (int64_t& offset : part.offsets) offset *= rows;
    result.part = std::make_shared<const ContextPart>(std::move(part));
  }
  return result;
}

// Products of queries and keys [B, T, R, H, K] of the same token: [B, T, H, R, R].
Tensor products_of_token(const Tensor& queries, const Tensor& keys) {
  return torch::matmul(queries.transpose(2, 3), keys.permute({0, 1, 3, 4, 2}));
}

// Sums of the values [B, T, R, H, V] of the same token, weighted [B, T, H, R, R].
Tensor sums_of_token(const Tensor& weights, const Tensor& values) {
  return torch::matmul(weights, values.transpose(2, 3)).transpose(2, 3);
}

}  // namespace

void Mamba3::Options::visit(Fields& fields) {
  fields("state", state, {0, kernels::kMaxHeadDim}, "width of B and C (keys and queries); 0: model.head_dim");
  fields("groups", groups, {1, 4096}, "number of groups of heads that share B and C; must divide model.heads");
  fields("rope_fraction", rope_fraction, {0, 1}, "share of the channels of B and C that are rotated");
}

Mamba3::Mamba3(const MixerShape& shape, const Options& options, int64_t rank)
    : heads_(shape.heads),
      head_dim_(shape.head_dim),
      state_dim_(or_default(options.state, shape.head_dim)),
      groups_(options.groups),
      rank_(rank),
      rotated_pairs_(static_cast<int64_t>(static_cast<double>(state_dim_) * options.rope_fraction) / 2),
      in_proj_(register_module(
          "in_proj", Linear(shape.width,
                            2 * heads_ * head_dim_ + 2 * rank_ * groups_ * state_dim_ + 3 * heads_ + rotated_pairs_))),
      out_proj_(register_module("out_proj", Linear(heads_ * head_dim_, shape.width))),
      B_norm_(register_module("B_norm", RmsNorm(state_dim_, shape.norm_eps))),
      C_norm_(register_module("C_norm", RmsNorm(state_dim_, shape.norm_eps))),
      dt_bias_(register_parameter("dt_bias", new_wide_parameter({heads_}))),
      D_(register_parameter("D", new_wide_parameter({heads_}, 1))),
      B_bias_(register_parameter("B_bias", new_wide_parameter({heads_, rank_, state_dim_}, 1))),
      C_bias_(register_parameter("C_bias", new_wide_parameter({heads_, rank_, state_dim_}, 1))) {
  require(heads_ % groups_ == 0, "groups", fmt::format("{}", groups_),
          fmt::format("must divide model.heads = {}", heads_));
  require(head_dim_ <= kernels::kMaxHeadDim, "model.head_dim", fmt::format("{}", head_dim_),
          "must be at most 256, the kernels' limit");
  if (rank_ == 1) return;
  const double mean = 1 / static_cast<double>(rank_);
  mimo_x_ = register_parameter("mimo_x", new_wide_parameter({heads_, rank_, head_dim_}, mean));
  mimo_z_ = register_parameter("mimo_z", new_wide_parameter({heads_, rank_, head_dim_}, 1));
  mimo_o_ = register_parameter("mimo_o", new_wide_parameter({heads_, rank_, head_dim_}, mean));
}

void Mamba3::initialise(const at::Generator& generator) { draw_dt_bias(dt_bias_, generator); }

Tensor Mamba3::mix(const Tensor& input, const Sequences& sequences, State* state) {
  const int64_t B = input.size(0), T = input.size(1), inner = heads_ * head_dim_, shared = rank_ * groups_ * state_dim_;
  const auto wide = kernels::accumulation_type(input.scalar_type());
  const std::vector<Tensor> parts = in_proj_->forward(input).split_with_sizes(
      {inner, inner, shared, shared, heads_, heads_, heads_, rotated_pairs_}, -1);
  const auto values = [&](int64_t part) { return parts[part].reshape({B, T, heads_, head_dim_}); };
  // [B, T, R, H, K]
  const auto keys = [&](int64_t part, const RmsNorm& norm, const Tensor& bias) {
    const Tensor y = norm->forward(parts[part].reshape({B, T, rank_, groups_, state_dim_})).to(wide);
    return (groups_ == heads_ ? y : y.repeat_interleave(heads_ / groups_, 3)) + bias.transpose(0, 1);
  };

  const Tensor dt = torch::softplus(parts[4] + dt_bias_), lambda = torch::sigmoid(parts[6].to(wide));  // [B, T, H]
  const Tensor angle = angles(parts[7], dt, sequences, state);
  const Tensor x = values(1).to(wide).unsqueeze(2);  // [B, T, 1, H, V]
  Step step;
  step.B = rotated(keys(2, B_norm_, B_bias_), angle);
  step.C = rotated(keys(3, C_norm_, C_bias_), angle);
  step.x = rank_ == 1 ? x : x * mimo_x_.transpose(0, 1);
  step.log_alpha = -dt * torch::softplus(parts[5].to(wide)).clamp_min(kSlowestRate);
  step.gamma = lambda * dt;
  step.before = (1 - lambda) * dt;
  const Tensor y = recur(step, sequences, state) + D_.unsqueeze(-1) * step.x;
  return out_proj_->forward(gated(y, values(0).unsqueeze(2)).reshape({B, T, inner}).to(input.scalar_type()));
}

// The angles [B, T, H, pairs] of all tokens in float64: sums over the tokens of a sequence, by a recurrence with one
// key channel that does not decay.
Tensor Mamba3::angles(const Tensor& theta, const Tensor& dt, const Sequences& sequences, State* state) const {
  const Tensor turn = std::numbers::pi * torch::tanh(theta.to(torch::kDouble)).unsqueeze(2) * dt.unsqueeze(-1);
  if (rotated_pairs_ == 0) return turn;
  kernels::RecurrenceInputs in;
  in.v = turn;
  in.q = in.k = torch::ones({turn.size(0), turn.size(1), 1, 1}, turn.options().requires_grad(false));
  in.scale = 1;
  const Tensor angle = run_recurrence(in, sequences, state, /*probe=*/nullptr, "angle");
  if (state != nullptr) state->tensors.at("angle") = state->tensors.at("angle").remainder(2 * std::numbers::pi);
  return angle;
}

// S^T C [B, T, R, H, V]. The memory lacks a token's own write, which the next token adds together with beta B' x'^T:
//     S - gamma B x^T = alpha (S' - gamma' B' x'^T) + (alpha gamma' + beta) B' x'^T
// so that there is one write per token and rank. Every row of the recurrence is one of a token's R writes and reads;
// what its read lacks are the later writes of its token, and the token's own.
Tensor Mamba3::recur(const Step& step, const Sequences& sequences, State* state) const {
  const Tensor key = preceding_token(step.B, sequences, state, "B"), x = preceding_token(step.x, sequences, state, "x");
  const Tensor gamma = preceding_token(step.gamma, sequences, state, "gamma");
  const Tensor weight = torch::exp(step.log_alpha) * (gamma + step.before);  // alpha gamma' + beta
  const Tensor written = x * weight.unsqueeze(2).unsqueeze(-1);
  kernels::RecurrenceInputs in;
  in.q = step.C.flatten(1, 2);
  in.k = key.flatten(1, 2);
  in.v = written.flatten(1, 2);
  in.g = torch::constant_pad_nd(step.log_alpha.unsqueeze(2), {0, 0, 0, rank_ - 1})
             .flatten(1, 2);  // before the first write
  in.scale = 1;
  Tensor y = run_recurrence(in, with_rows_per_token(sequences, rank_), state, /*probe=*/nullptr).view(step.x.sizes());
  if (rank_ > 1) y = y + sums_of_token(products_of_token(step.C, key).triu(1), written);
  return y + sums_of_token(products_of_token(step.C, step.B), step.x * step.gamma.unsqueeze(2).unsqueeze(-1));
}

// y [B, T, R, H, V] and z [B, T, 1, H, V] to [B, T, H, V].
Tensor Mamba3::gated(const Tensor& y, const Tensor& z) const {
  if (rank_ == 1) return (y * torch::silu(z)).squeeze(2);
  return (y * torch::silu(z * mimo_z_.transpose(0, 1)) * mimo_o_.transpose(0, 1)).sum(2);
}

void Mamba3::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  const auto wide = kernels::accumulation_type(in_proj_->input_dtype());
  state.tensors["memory"] = empty_memory(sequences, heads_, state_dim_, head_dim_, wide, device);
  state.tensors["B"] = no_preceding_token(sequences, rank_ * heads_ * state_dim_, wide, device);
  state.tensors["x"] = no_preceding_token(sequences, rank_ * heads_ * head_dim_, wide, device);
  state.tensors["gamma"] = no_preceding_token(sequences, heads_, wide, device);
  if (rotated_pairs_ > 0)
    state.tensors["angle"] = empty_memory(sequences, heads_, 1, rotated_pairs_, torch::kDouble, device);
}

// FLOPs of the products of a token's queries and keys and of the sums of its values, without those of the recurrence.
double Mamba3::products_per_token() const {
  const auto of_one = static_cast<double>(2 * heads_ * rank_ * rank_ * (state_dim_ + head_dim_));
  return rank_ > 1 ? 2 * of_one : of_one;
}

double Mamba3::flops(int64_t tokens) const {
  return static_cast<double>(tokens) * (linear_flops(*this) + products_per_token()) +
         static_cast<double>(heads_) *
             kernels::recurrence_flops(kernels::Update::accumulate, tokens * rank_, state_dim_, head_dim_);
}

double Mamba3::decode_flops(int64_t) const {
  return linear_flops(*this) + products_per_token() +
         static_cast<double>(heads_ * rank_) *
             kernels::recurrence_step_flops(kernels::Update::accumulate, state_dim_, head_dim_);
}

MixerEntry mamba3_mixer() {
  return mixer_entry<Mamba3>("mamba3",
                             "Mamba-3: accumulates by the trapezoidal rule, rotates its keys, one decay per head",
                             "recurrence/scalar/accumulate");
}

}  // namespace klab
