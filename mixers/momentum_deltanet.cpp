// SPDX-License-Identifier: Apache-2.0
#include "mixers/momentum_deltanet.h"

#include <torch/nn/module.h>

#include <cmath>

#include "core/model/context_recurrence.h"
#include "kernels/common/checks.h"
#include "kernels/momentum/momentum.h"
#include "kernels/norms/norms.h"
#include "kernels/recurrence/recurrence_cost.h"
#include "mixers/registry.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr double kSmallestLogMu = -2;

// The last `tokens` tokens of all inputs.
kernels::MomentumInputs last_tokens(kernels::MomentumInputs in, int64_t tokens) {
  for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.log_mu, &in.beta, &in.eta}) {
    *x = x->narrow(1, x->size(1) - tokens, tokens);
  }
  in.cu_seqlens.reset();
  return in;
}

// The states before the sequences of this rank's part: what its tokens do to a state is affine, as in
// context_recurrence().
Tensor states_of_part(const kernels::MomentumInputs& all, const Sequences& sequences) {
  kernels::MomentumInputs in = last_tokens(all, sequences.lengths(1, all.q.size(1)).back());
  const auto effect = [&] { return kernels::momentum_delta_rule(in).final_state.squeeze(0); };
  const Tensor written = effect();
  const int64_t HV = written.size(0), both = written.size(1);
  in.initial_state = torch::eye(both, written.options()).expand({1, HV, both, both});
  in.v = torch::zeros({1, in.v.size(1), HV, both}, in.v.options());
  return states_before(sequences, effect(), written);
}

}  // namespace

MomentumDeltaNet::MomentumDeltaNet(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options, {kernels::Update::delta}),
      beta_(*this, width_, value_heads_, options.allow_neg_eigval),
      decay_(*this, width_, value_heads_),
      m_proj_(register_module("m_proj", Linear(width_, value_heads_))),
      e_proj_(register_module("e_proj", Linear(width_, value_heads_))),
      Mu_log_(register_parameter("Mu_log", new_wide_parameter({value_heads_}))),
      mu_bias_(register_parameter("mu_bias", new_wide_parameter({value_heads_}))),
      log_factor_(register_parameter("log_factor", new_wide_parameter({value_heads_}))),
      D_log_(register_parameter("D_log", new_wide_parameter({heads_}))) {}

void MomentumDeltaNet::initialise(const at::Generator& generator) {
  decay_.initialise(generator);
  draw_A_log(Mu_log_, generator);
  draw_dt_bias(mu_bias_, generator);
  log_factor_.uniform_(0, 4, generator).log_();
  D_log_.uniform_(0, 1, generator).log_();
}

void MomentumDeltaNet::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences&,
                                   State*) const {
  const auto wide = kernels::accumulation_type(x.tensor().scalar_type());
  in.q = kernels::l2norm(in.q.to(wide) - D_log_.exp().unsqueeze(-1) * in.k.to(wide));
  in.k = kernels::l2norm(in.k.to(wide));
}

Tensor MomentumDeltaNet::recur(const kernels::RecurrenceInputs& shared, const Tensor& x, const Sequences& sequences,
                               State* state) const {
  const auto wide = kernels::accumulation_type(x.scalar_type());
  kernels::MomentumInputs in;
  in.q = shared.q;
  in.k = shared.k;
  in.v = shared.v.to(wide);
  in.eta = 1 + torch::tanh(e_proj_->forward(x).to(wide) / std::sqrt(static_cast<double>(width_)));
  const Tensor r = (in.eta * log_factor_.exp()).square();
  in.beta = r / (1 + r) * beta_.value(x);
  in.g = decay_.value(x) - torch::log1p(r);
  in.log_mu = (-Mu_log_.exp() * torch::softplus(m_proj_->forward(x).to(wide) + mu_bias_)).clamp_min(kSmallestLogMu);
  in.cu_seqlens = sequences.cu_seqlens;
  if (state != nullptr) in.initial_state = state->tensors.at("memory");
  if (sequences.part) in.initial_state = states_of_part(in, sequences);
  const kernels::MomentumOutputs out = kernels::momentum_delta_rule(in);
  if (state != nullptr) state->tensors.at("memory") = out.final_state;
  return out.o.to(shared.v.scalar_type());
}

void MomentumDeltaNet::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  LinearMixer::add_state(state, sequences, device);
  state.tensors["memory"] =
      empty_memory(sequences, value_heads_, 2 * key_dim_, value_dim_, beta_.projection()->input_dtype(), device);
}

double MomentumDeltaNet::flops(int64_t tokens) const {
  const double plain = kernels::recurrence_flops(kernels::Update::delta, tokens, key_dim_, value_dim_);
  return LinearMixer::flops(tokens) +
         static_cast<double>(value_heads_) * (kernels::momentum_flops(tokens, key_dim_, value_dim_) - plain);
}

double MomentumDeltaNet::decode_flops(int64_t tokens) const {
  const double plain = kernels::recurrence_step_flops(kernels::Update::delta, key_dim_, value_dim_);
  return LinearMixer::decode_flops(tokens) +
         static_cast<double>(value_heads_) * (kernels::momentum_step_flops(key_dim_, value_dim_) - plain);
}

MixerEntry momentum_deltanet_mixer() {
  return mixer_entry<MomentumDeltaNet>(
      "momentum_deltanet", "Momentum DeltaNet: delta rule whose corrections have momentum, one decay per head",
      "momentum");
}

}  // namespace klab
