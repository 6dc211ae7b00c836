// SPDX-License-Identifier: Apache-2.0
#include "core/model/feed_forward.h"

#include <fmt/format.h>
#include <torch/nn/module.h>

#include <limits>
#include <optional>

#include "core/parallel/collectives.h"
#include "kernels/common/checks.h"
#include "kernels/linear/experts.h"
#include "kernels/linear/linear.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kBestOfGroup = 2;  // a group's score is the sum of its two best experts' scores

}  // namespace

GatedMlp::GatedMlp(int64_t width, int64_t hidden, Activation activation, bool convolved)
    : activation_(std::move(activation)),
      gate_proj_(register_module("gate_proj", Linear(width, hidden))),
      up_proj_(register_module("up_proj", Linear(width, hidden))),
      down_proj_(register_module("down_proj", Linear(hidden, width))) {
  if (!convolved) return;
  gate_canon_ = register_module("gate_canon", canon_conv(hidden));
  up_canon_ = register_module("up_canon", canon_conv(hidden));
}

Tensor GatedMlp::forward(const Tensor& x) {
  const SharedInput in(x, {gate_proj_, up_proj_});
  return down_proj_->forward(activation_(in.take(gate_proj_), in.take(up_proj_)));
}

Tensor GatedMlp::forward(const Tensor& x, const Sequences& sequences, State* state) {
  if (!gate_canon_) return forward(x);
  const SharedInput in(x, {gate_proj_, up_proj_});
  const Tensor gate = in.take(gate_proj_), up = in.take(up_proj_);
  return down_proj_->forward(activation_(gate + gate_canon_->forward(gate, sequences, state, "gate_canon"),
                                         up + up_canon_->forward(up, sequences, state, "up_canon")));
}

void GatedMlp::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  if (!gate_canon_) return;
  state.tensors["gate_canon"] = gate_canon_->initial_state(sequences, device);
  state.tensors["up_canon"] = up_canon_->initial_state(sequences, device);
}

kernels::ExpertWeights GatedMlp::weights() const {
  return {gate_proj_->weight, up_proj_->weight, down_proj_->weight,
          gate_proj_->scale,  up_proj_->scale,  down_proj_->scale};
}

double GatedMlp::flops() const {
  return linear_flops(*this) + (gate_canon_ ? gate_canon_->flops_per_token() + up_canon_->flops_per_token() : 0);
}

int64_t GatedMlp::activated_parameters() const { return parameter_count(*this); }

void MoeConfig::visit(Fields& fields) {
  fields("experts", experts, {0, 4096}, "routed experts of a layer; 0: dense layers, no mixture");
  fields("experts_per_token", experts_per_token, {1, 4096}, "routed experts per token");
  fields("expert_width", expert_width, {0, 1 << 20},
         "hidden width of an expert; 0: model.mlp_width / experts_per_token");
  fields("shared_experts", shared_experts, {0, 256},
         "shared experts, implemented as one expert of that many times the width");
  fields("shared_width", shared_width, {0, 1 << 20},
         "hidden width of all shared experts together; 0: shared_experts times the width of an expert");
  fields("shared_gate", shared_gate, "multiply the output of the shared experts by the sigmoid of a projection");
  fields.choice("router", router, {"sigmoid", "softmax"},
                "scores of the experts; sigmoid: each by itself, with a correction bias; softmax: over all of them");
  fields("groups", groups, {1, 4096}, "groups of experts");
  fields("groups_per_token", groups_per_token, {1, 4096}, "groups per token from which its experts are selected");
  fields("renormalise", renormalise, "normalise the weights of the selected experts to sum to 1");
  fields("scaling", scaling, {0, 1e6, Ends::above_least}, "factor on the sum of the routed experts");
  fields("bias_update", bias_update, {0, 1},
         "change of the correction bias after each training step, against the load; 0: fixed");
  fields("biased_weights", biased_weights,
         "include the correction bias in the weights, like the (unintended) remote code of the public checkpoint");
  fields("latent_width", latent_width, {0, 1 << 20},
         "width in which the routed experts work, between two projections; 0: model.width, without projections");
  fields("latent_norm", latent_norm, "with a latent width: an RMS norm on the sum of the routed experts");
}

void MoeConfig::validate() const {
  if (experts == 0) return;
  const auto check = [](bool holds, const char* key, int64_t value, const std::string& must) {
    require(holds, std::string("model.moe.") + key, fmt::format("{}", value), must);
  };
  require(!(biased_weights && router == "softmax"), "model.moe.biased_weights", "true",
          "needs model.moe.router = sigmoid: with softmax there is no bias");
  require(!(shared_gate && shared_experts == 0), "model.moe.shared_gate", "true",
          "needs model.moe.shared_experts of at least 1");
  check(experts_per_token <= experts, "experts_per_token", experts_per_token,
        fmt::format("must lie in 1..{}, the number of experts", experts));
  check(experts % groups == 0, "groups", groups, fmt::format("must divide model.moe.experts = {}", experts));
  check(groups_per_token <= groups, "groups_per_token", groups_per_token,
        fmt::format("must lie in 1..{}, the number of groups", groups));
  check(experts_per_token <= groups_per_token * (experts / groups), "experts_per_token", experts_per_token,
        fmt::format("must be at most {}: {} group(s) of {} experts", groups_per_token * (experts / groups),
                    groups_per_token, experts / groups));
}

MixtureOfExperts::MixtureOfExperts(int64_t width, int64_t expert_width, const MoeConfig& config,
                                   std::shared_ptr<RankGroup> ranks, Activation activation, double norm_eps)
    : config_(config),
      activation_(std::move(activation)),
      ranks_(std::move(ranks)),
      router_(register_module("router", Linear(width, config.experts))) {
  const int64_t shares = ranks_ ? ranks_->size() : 1;
  require(config.experts % shares == 0, "model.moe.experts", fmt::format("{}", config.experts),
          fmt::format("must be a multiple of the {} ranks that share the experts", shares));
  if (config.router == "sigmoid") {
    correction_bias_ = register_parameter("correction_bias", new_wide_parameter({config.experts}),
                                          /*requires_grad=*/false);
  }
  const int64_t routed_width = config.latent_width > 0 ? config.latent_width : width;
  if (config.latent_width > 0) {
    down_proj_ = register_module("down_proj", Linear(width, routed_width));
    up_proj_ = register_module("up_proj", Linear(routed_width, width));
    if (config.latent_norm) latent_norm_ = register_module("latent_norm", RmsNorm(routed_width, norm_eps));
  }
  for (int64_t e = 0; e < config.experts; ++e) {
    std::optional<ParameterPlace> elsewhere;
    if (e < first_expert() || e >= first_expert() + own_experts()) elsewhere.emplace(torch::kMeta);
    experts_.push_back(register_module("expert" + std::to_string(e),
                                       std::make_shared<GatedMlp>(routed_width, expert_width, activation_)));
  }
  if (config.shared_experts == 0) return;
  const int64_t shared_width = config.shared_width > 0 ? config.shared_width : config.shared_experts * expert_width;
  shared_ = register_module("shared", std::make_shared<GatedMlp>(width, shared_width, activation_));
  if (config.shared_gate) shared_gate_ = register_module("shared_gate", Linear(width, 1));
}

Routing MixtureOfExperts::route(const Tensor& x) const {
  // In float32 for every dtype of x: rounded scores could select other experts.
  const auto wide = kernels::accumulation_type(x.scalar_type());
  const bool narrow_weight = !torch::GradMode::is_enabled();
  const Tensor logits =
      narrow_weight ? router_->forward(x.to(wide)) : kernels::linear(x.to(wide), router_->weight.to(wide));
  const Tensor scores = config_.router == "softmax" ? logits.softmax(-1) : torch::sigmoid(logits);  // [n, E]
  const Tensor choice = (correction_bias_.defined() ? scores + correction_bias_ : scores).detach();
  Tensor allowed = choice;
  if (config_.groups_per_token < config_.groups) {
    const Tensor grouped = choice.view({choice.size(0), config_.groups, -1});  // [n, G, E / G]
    const int64_t best = std::min(kBestOfGroup, grouped.size(2));
    const Tensor group_score = std::get<0>(grouped.topk(best, -1)).sum(-1);
    const Tensor groups = std::get<1>(group_score.topk(config_.groups_per_token, -1));
    const Tensor open = torch::zeros_like(group_score, torch::kBool).scatter_(1, groups, true);
    allowed =
        grouped.masked_fill(open.logical_not().unsqueeze(-1), -std::numeric_limits<double>::infinity()).view_as(choice);
  }
  const Tensor experts = std::get<1>(allowed.topk(config_.experts_per_token, -1));
  Tensor weights = (config_.biased_weights ? scores + correction_bias_ : scores).gather(1, experts);
  if (config_.renormalise) weights = weights / (weights.sum(-1, /*keepdim=*/true) + 1e-20);
  return {experts, weights * config_.scaling};
}

Tensor MixtureOfExperts::forward(const Tensor& input, const Sequences&, State*) {
  const Tensor x = input.reshape({-1, input.size(-1)});  // [n, D]
  const Routing routing = route(x);
  const Tensor y = routed(x, routing);
  if (!shared_ || (by_kernel() && shares_kernel())) return y.view(input.sizes());
  const Tensor always = shared_->forward(x);
  return (y + (shared_gate_ ? always * torch::sigmoid(shared_gate_->forward(x)) : always)).view(input.sizes());
}

// The sum of the routed experts, with the shared ones if the kernel adds them.
Tensor MixtureOfExperts::routed(const Tensor& x, const Routing& routing) {
  const Tensor rows = down_proj_ ? down_proj_->forward(x) : x;
  const Tensor y =
      by_kernel() ? kernels::experts({rows, routing.experts, routing.weights, &table()}) : by_expert(rows, routing);
  if (!down_proj_) return y;
  return up_proj_->forward(latent_norm_ ? latent_norm_->forward(y) : y);
}

bool MixtureOfExperts::by_kernel() const {
  return !torch::GradMode::is_enabled() && !ranks_ && activation_.name == "silu";
}

bool MixtureOfExperts::shares_kernel() const { return shared_ && !down_proj_ && !shared_gate_; }

const kernels::ExpertTable& MixtureOfExperts::table() {
  const void* now = experts_.front()->weights().gate.const_data_ptr();
  if (!table_ || table_of_ != now) {
    std::vector<kernels::ExpertWeights> all;
    for (const auto& expert : experts_) all.push_back(expert->weights());
    table_ = std::make_shared<kernels::ExpertTable>(std::move(all),
                                                    shares_kernel() ? shared_->weights() : kernels::ExpertWeights{});
    table_of_ = now;
  }
  return *table_;
}

namespace {

// Appends rows of zeros to x [n, D] where products of any number of rows would be slow: in bfloat16 oneDNN compiles a
// kernel for every new size, which takes ten times as long as the products of an expert.
Tensor with_usual_rows(const Tensor& x) {
  constexpr int64_t kMultiple = 64;
  if (!x.is_cpu() || x.scalar_type() != torch::kBFloat16) return x;
  const int64_t missing = (kMultiple - x.size(0) % kMultiple) % kMultiple;
  return torch::constant_pad_nd(x, {0, 0, 0, missing});
}

}  // namespace

// The routed experts, as training runs them: each once over all tokens routed to it.
Tensor MixtureOfExperts::by_expert(const Tensor& x, const Routing& routing) {
  const auto& [experts, weights] = routing;
  const Tensor selected = experts.reshape({-1});                         // [n * k]
  const Tensor order = selected.argsort(/*stable=*/true);                // indices into [n * k], sorted by expert
  const Tensor counts = torch::bincount(selected, {}, config_.experts);  // [E]
  const Tensor tokens = order.div(config_.experts_per_token, "floor");   // token of each entry
  const Tensor share = weights.reshape({-1}).index_select(0, order).unsqueeze(-1);
  if (torch::GradMode::is_enabled() && correction_bias_.defined()) load_ = load_.defined() ? load_ + counts : counts;

  const Tensor rows = x.index_select(0, tokens);  // those of an expert follow each other
  const Tensor outputs = ranks_ ? run_spread_experts(rows, counts.cpu()) : run_experts(rows, counts.cpu());
  // The sum over a token's experts is in the dtype of the weights and rounded once.
  const Tensor weighted = outputs.to(share.scalar_type()) * share;
  return torch::zeros({x.size(0), x.size(1)}, weighted.options()).index_add(0, tokens, weighted).to(x.scalar_type());
}

// This rank's experts over rows [n, D] that are sorted by expert; `counts` [own experts] of each, on the host.
Tensor MixtureOfExperts::run_experts(const Tensor& rows, const Tensor& counts) {
  std::vector<Tensor> outputs;
  int64_t start = 0;
  for (int64_t e = 0; e < own_experts(); ++e) {
    const int64_t count = counts.const_data_ptr<int64_t>()[e];
    if (count == 0) continue;
    const Tensor own = with_usual_rows(rows.narrow(0, start, count));
    outputs.push_back(experts_[static_cast<size_t>(first_expert() + e)]->forward(own).narrow(0, 0, count));
    start += count;
  }
  return outputs.empty() ? rows : torch::cat(outputs);  // no rows: still a part of the graph
}

// The experts of all ranks over this rank's rows [n, D] that are sorted by expert; `counts` [E] of each, on the host.
Tensor MixtureOfExperts::run_spread_experts(const Tensor& rows, const Tensor& counts) {
  const Tensor of_ranks = ranks_->gather(counts);                         // [ranks, E]
  const Tensor here = of_ranks.narrow(1, first_expert(), own_experts());  // [ranks, own experts]
  const auto numbers = [](const Tensor& x) {
    const Tensor dense = x.contiguous();
    return std::vector<int64_t>(dense.const_data_ptr<int64_t>(), dense.const_data_ptr<int64_t>() + dense.numel());
  };
  const std::vector<int64_t> sent = numbers(counts.view({ranks_->size(), -1}).sum(1)), received = numbers(here.sum(1));
  const Tensor all = exchange(ranks_, rows, sent, received);  // by rank, and of each rank by expert
  const Tensor expert = torch::arange(own_experts()).repeat({ranks_->size()}).repeat_interleave(here.reshape({-1}));
  const Tensor order = expert.argsort(/*stable=*/true).to(rows.device());
  const Tensor outputs = run_experts(all.index_select(0, order), here.sum(0));
  return exchange(ranks_, outputs.index_select(0, order.argsort()), received, sent);
}

std::vector<std::string> MixtureOfExperts::expert_parameters() const {
  std::vector<std::string> names;
  for (size_t e = 0; e < experts_.size(); ++e) {
    for (const auto& item : experts_[e]->named_parameters()) {
      names.push_back("expert" + std::to_string(e) + "." + item.key());
    }
  }
  return names;
}

void MixtureOfExperts::after_step(RankGroup& ranks) {
  if (!correction_bias_.defined() || (!load_.defined() && ranks.alone())) return;
  const torch::NoGradGuard no_grad;
  const Tensor own =
      load_.defined() ? load_ : torch::zeros({config_.experts}, torch::kLong).to(router_->weight.device());
  const Tensor load = ranks.sum(own).to(correction_bias_.scalar_type());
  correction_bias_.add_(torch::sign(load.mean() - load), config_.bias_update);
  load_.reset();
}

int64_t MixtureOfExperts::absent_parameters() const {
  return (config_.experts - config_.experts_per_token) * parameter_count(*experts_.front());
}

double MixtureOfExperts::flops() const { return linear_flops(*this) - 2 * static_cast<double>(absent_parameters()); }

int64_t MixtureOfExperts::activated_parameters() const { return parameter_count(*this) - absent_parameters(); }

}  // namespace klab
