// SPDX-License-Identifier: Apache-2.0
#include "mixers/precond_gdn.h"

#include <torch/nn/module.h>

#include "kernels/common/checks.h"
#include "kernels/norms/norms.h"
#include "mixers/registry.h"

namespace klab {

using torch::Tensor;

void PrecondGdn::Options::visit(Fields& fields) {
  DeltaOptions::visit(fields);
  visit_squash(fields, squash);
}

PrecondGdn::PrecondGdn(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options, {kernels::Update::dplr}),
      beta_(*this, width_, value_heads_, options.allow_neg_eigval),
      decay_(*this, width_, value_heads_),
      preconditioner_(register_module("preconditioner", Preconditioner(width_, heads_, key_dim_, options.squash))) {}

void PrecondGdn::initialise(const at::Generator& generator) {
  decay_.initialise(generator);
  preconditioner_->initialise(generator);
}

void PrecondGdn::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                             State* state) const {
  const auto wide = kernels::accumulation_type(x.tensor().scalar_type());
  const Tensor k = kernels::l2norm(in.k.to(wide));  // [B, T, H, K]
  const Tensor scales = preconditioner_->scales(k, x, sequences, state);
  fill_preconditioned(in, for_value_heads(kernels::l2norm(in.q.to(wide))), for_value_heads(k), for_value_heads(scales),
                      decay_.value(x), beta_.value(x));
}

void PrecondGdn::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  LinearMixer::add_state(state, sequences, device);
  preconditioner_->add_state(state, sequences, device);
}

double PrecondGdn::flops(int64_t tokens) const { return LinearMixer::flops(tokens) + preconditioner_->flops(tokens); }

double PrecondGdn::decode_flops(int64_t tokens) const {
  return LinearMixer::decode_flops(tokens) + preconditioner_->decode_flops();
}

MixerEntry precond_gdn_mixer() {
  return mixer_entry<PrecondGdn>("precond_gdn", "Gated DeltaNet that writes along a preconditioned key",
                                 "recurrence/scalar/dplr");
}

}  // namespace klab
