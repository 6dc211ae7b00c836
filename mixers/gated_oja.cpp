// SPDX-License-Identifier: Apache-2.0
#include "mixers/gated_oja.h"

#include <torch/nn/module.h>

#include "core/model/context_recurrence.h"
#include "kernels/common/checks.h"
#include "kernels/norms/norms.h"
#include "kernels/oja/oja.h"
#include "kernels/recurrence/recurrence_cost.h"
#include "mixers/registry.h"

namespace klab {
namespace {

using torch::Tensor;

// The last `tokens` tokens of all inputs.
kernels::OjaInputs last_tokens(kernels::OjaInputs in, int64_t tokens) {
  for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta}) *x = x->narrow(1, x->size(1) - tokens, tokens);
  in.cu_seqlens.reset();
  return in;
}

// S^T before the sequences of this rank's part: what its tokens do to S^T is affine, as in context_recurrence().
Tensor states_of_part(const kernels::OjaInputs& all, const Sequences& sequences) {
  kernels::OjaInputs in = last_tokens(all, sequences.lengths(1, all.q.size(1)).back());
  const auto effect = [&] { return kernels::oja_rule(in).final_state.squeeze(0).transpose(-1, -2); };
  const Tensor written = effect();
  const int64_t HV = written.size(0), V = written.size(1);
  in.initial_state = torch::eye(V, written.options()).expand({1, HV, V, V});
  in.q = in.k = torch::zeros({1, in.v.size(1), HV, V}, in.v.options());  // a state without keys only goes through
  return states_before(sequences, effect(), written);
}

}  // namespace

GatedOja::GatedOja(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options, {kernels::Update::delta}),
      beta_(*this, width_, value_heads_, options.allow_neg_eigval),
      decay_(*this, width_, value_heads_, value_dim_, options.full_rank_decay(), options.lower_bound) {}

void GatedOja::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences&, State*) const {
  const auto wide = kernels::accumulation_type(x.tensor().scalar_type());
  in.q = kernels::l2norm(in.q.to(wide));
  in.k = kernels::l2norm(in.k.to(wide));
  in.v = kernels::l2norm(in.v.to(wide));
}

Tensor GatedOja::recur(const kernels::RecurrenceInputs& shared, const Tensor& x, const Sequences& sequences,
                       State* state) const {
  kernels::OjaInputs in;
  in.q = shared.q;
  in.k = shared.k;
  in.v = shared.v;
  in.g = decay_.value(x);
  in.beta = beta_.value(x);
  in.cu_seqlens = sequences.cu_seqlens;
  if (state != nullptr) in.initial_state = state->tensors.at("memory").transpose(-1, -2);
  if (sequences.part) in.initial_state = states_of_part(in, sequences).transpose(-1, -2);
  const kernels::OjaOutputs out = kernels::oja_rule(in);
  if (state != nullptr) state->tensors.at("memory") = out.final_state.transpose(-1, -2).contiguous();
  return out.o.to(x.scalar_type());
}

void GatedOja::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  LinearMixer::add_state(state, sequences, device);
  state.tensors["memory"] =
      empty_memory(sequences, value_heads_, value_dim_, key_dim_, beta_.projection()->input_dtype(), device);
}

double GatedOja::flops(int64_t tokens) const {
  const double plain = kernels::recurrence_flops(kernels::Update::delta, tokens, key_dim_, value_dim_);
  return LinearMixer::flops(tokens) +
         static_cast<double>(value_heads_) * (kernels::oja_flops(tokens, key_dim_, value_dim_) - plain);
}

double GatedOja::decode_flops(int64_t tokens) const {
  const double plain = kernels::recurrence_step_flops(kernels::Update::delta, key_dim_, value_dim_);
  return LinearMixer::decode_flops(tokens) +
         static_cast<double>(value_heads_) * (kernels::oja_step_flops(key_dim_, value_dim_) - plain);
}

MixerEntry gated_oja_mixer() {
  return mixer_entry<GatedOja>("gated_oja", "gated Oja: predicts the key from the value, decay per value channel",
                               "oja");
}

}  // namespace klab
