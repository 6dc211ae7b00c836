// SPDX-License-Identifier: Apache-2.0
#include "mixers/hgrn2.h"

#include <torch/nn/module.h>

#include "kernels/common/checks.h"
#include "mixers/registry.h"

namespace klab {

using torch::Tensor;

void Hgrn2::Options::visit(Fields& fields) {
  LinearOptions::visit(fields);
  fields("lower_bound", lower_bound, {0, 1, Ends::below_most},
         "lower bound of the forget gate, in [0, 1); larger in higher layers for longer memory");
}

Hgrn2::Hgrn2(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options,
                  {.update = kernels::Update::accumulate,
                   .activated = false,
                   .conv_activated = false,
                   .norm_over_heads = true}),
      lower_bound_(options.lower_bound) {
  require(options.output_gate == "none", "output_gate", options.output_gate, "must be none");
}

void Hgrn2::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences&, State*) const {
  // The output of k_proj is the raw forget gate.
  const Tensor raw = in.k.to(kernels::accumulation_type(x.tensor().scalar_type()));
  in.q = torch::silu(in.q);
  // 1 - f = (1 - lower_bound) sigmoid(-raw), avoids cancellation.
  in.k = ((1 - lower_bound_) * torch::sigmoid(-raw)).to(x.tensor().scalar_type());
  const Tensor log_f =
      lower_bound_ == 0 ? torch::log_sigmoid(raw) : torch::log(lower_bound_ + (1 - lower_bound_) * torch::sigmoid(raw));
  in.g = for_value_heads(log_f);
}

MixerEntry hgrn2_mixer() {
  return mixer_entry<Hgrn2>("hgrn2", "HGRN2: accumulates, the key is one minus the decay per channel",
                            "recurrence/channel/accumulate");
}

}  // namespace klab
