// SPDX-License-Identifier: Apache-2.0
#include "mixers/retnet.h"

#include <torch/nn/module.h>

#include "kernels/attention/rotary.h"
#include "kernels/common/checks.h"
#include "mixers/registry.h"

namespace klab {

using torch::Tensor;

void RetNet::Options::visit(Fields& fields) {
  LinearOptions::visit(fields);
  fields("rope_base", rope_base, {0, 1e12, Ends::above_least}, "base of the rotary embedding");
}

RetNet::RetNet(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options, {.update = kernels::Update::accumulate, .activated = false}),
      rope_base_(options.rope_base) {
  require(key_dim_ % 2 == 0, "key_dim", fmt::format("{}", key_dim_), "must be even: channels are rotated in pairs");
}

void RetNet::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                         State* state) const {
  const int64_t B = x.tensor().size(0), T = x.tensor().size(1);
  const Tensor at = positions(sequences, B, T, state, x.tensor().device());
  in.q = kernels::rotary(in.q, at, rope_base_);
  in.k = kernels::rotary(in.k, at, rope_base_);
  const auto wide =
      x.tensor().options().dtype(kernels::accumulation_type(x.tensor().scalar_type())).requires_grad(false);
  const Tensor decay = torch::log1p(-torch::exp2(-5 - torch::arange(value_heads_, wide)));
  in.g = decay.expand({B, T, value_heads_});
}

MixerEntry retnet_mixer() {
  return mixer_entry<RetNet>("retnet", "RetNet: accumulates, a fixed decay per head, rotary positions",
                             "recurrence/scalar/accumulate");
}

}  // namespace klab
