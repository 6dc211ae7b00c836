// SPDX-License-Identifier: Apache-2.0
#include "core/model/context_recurrence.h"

#include <torch/nn/module.h>

#include "kernels/common/checks.h"
#include "kernels/common/rows.h"

namespace klab {
namespace {

using torch::Tensor;

// The last `tokens` tokens of all inputs.
kernels::RecurrenceInputs last_tokens(kernels::RecurrenceInputs in, int64_t tokens) {
  in.cu_seqlens.reset();
  return kernels::tokens_of(in, in.q.size(1) - tokens, tokens);
}

Tensor final_state(const kernels::RecurrenceInputs& in) { return kernels::recurrence(in).final_state.squeeze(0); }

// [HV, K, K] of an update that only adds: the product of the decays.
Tensor decay_of(const kernels::RecurrenceInputs& in, const Tensor& written) {
  const int64_t HV = written.size(0), K = written.size(1);
  const Tensor g = kernels::activated(in).g;
  if (!g.defined()) return torch::eye(K, written.options()).expand({HV, K, K});
  const Tensor decay = g.to(written.scalar_type()).sum(1).exp().view({HV, -1}).expand({HV, K});
  return torch::diag_embed(decay);
}

// The effect on the memory: transition [HV, K, K] and written [HV, K, V].
std::pair<Tensor, Tensor> effect_of(kernels::RecurrenceInputs in) {
  const int64_t K = in.k.size(3), V = in.v.size(3), HV = in.v.size(2);
  if (in.update() == kernels::Update::accumulate) {
    const Tensor written = final_state(in);
    return {decay_of(in, written), written};
  }
  const auto options = torch::TensorOptions(kernels::accumulation_type(in.v.scalar_type())).device(in.v.device());
  const Tensor nothing = torch::zeros({1, HV, K, V}, options), identity = torch::eye(K, options).expand({1, HV, K, K});
  // Without values the memory only goes through the transition.
  const Tensor no_values = torch::zeros({1, in.v.size(1), HV, K}, in.v.options());
  if (K + V > kernels::kMaxHeadDim) {
    const Tensor written = final_state(in);
    in.v = no_values;
    in.initial_state = identity.contiguous();
    return {final_state(in), written};
  }
  in.v = torch::cat({no_values, in.v}, 3);
  in.initial_state = torch::cat({identity, nothing}, 3);
  const Tensor both = final_state(in);
  return {both.narrow(2, 0, K), both.narrow(2, K, V)};
}

}  // namespace

Tensor states_before(const Sequences& sequences, const Tensor& transition, const Tensor& written) {
  const Tensor memory = memory_before(*sequences.part, transition, written).unsqueeze(0);
  const int64_t others = sequences.cu_seqlens.size(0) - 2;
  return torch::constant_pad_nd(memory, {0, 0, 0, 0, 0, 0, 0, others});
}

Tensor context_recurrence(kernels::RecurrenceInputs in, const Sequences& sequences) {
  const std::vector<int64_t> lengths = sequences.lengths(1, in.q.size(1));
  const auto [transition, written] = effect_of(last_tokens(in, lengths.back()));
  in.cu_seqlens = sequences.cu_seqlens;
  in.initial_state = states_before(sequences, transition, written);
  return kernels::recurrence(in).o;
}

}  // namespace klab
