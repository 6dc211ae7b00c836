// SPDX-License-Identifier: Apache-2.0
#include "mixers/gla.h"

#include <torch/nn/module.h>

#include "kernels/common/checks.h"
#include "mixers/registry.h"

namespace klab {

void Gla::Options::visit(Fields& fields) {
  LinearOptions::visit(fields);
  fields("gate_rank", gate_rank, {1, 8192}, "rank of the projection to the decay");
  fields("gate_divisor", gate_divisor, {0, 1e6, Ends::above_least},
         "divisor of the log-decay; larger values decay more slowly");
}

Gla::Gla(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options, {.update = kernels::Update::accumulate, .activated = false}),
      gate_divisor_(options.gate_divisor),
      gk_a_proj_(register_module("gk_a_proj", Linear(width_, options.gate_rank))),
      gk_b_proj_(register_module("gk_b_proj", Linear(options.gate_rank, value_heads_ * key_dim_, /*with_bias=*/true))) {
}

void Gla::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences&, State*) const {
  const torch::Tensor raw = gk_b_proj_->forward(gk_a_proj_->forward(x));
  in.g = by_value_head(torch::log_sigmoid(raw.to(kernels::accumulation_type(raw.scalar_type()))) / gate_divisor_);
}

MixerEntry gla_mixer() {
  return mixer_entry<Gla>("gla", "gated linear attention: accumulates, decay per channel",
                          "recurrence/channel/accumulate");
}

}  // namespace klab
