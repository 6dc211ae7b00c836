// SPDX-License-Identifier: Apache-2.0
#include "mixers/sliding_attention.h"

#include "mixers/registry.h"

namespace klab {

void SlidingAttention::Options::visit(Fields& fields) {
  Attention::Options::visit(fields);
  fields("window", window, {1, 1 << 20}, "tokens that a query attends to, its own among them");
  fields("rope_base", rope_base, {0, 1e12}, "base of the rotary embedding; 0: no positions");
}

SlidingAttention::SlidingAttention(const MixerShape& shape, const Options& options)
    : Attention(shape, options,
                {.rope_base = options.rope_base, .rope_dim = shape.head_dim, .window = options.window}) {
  require(options.rope_base == 0 || head_dim_ % 2 == 0, "model.head_dim", fmt::format("{}", head_dim_),
          "must be even: channels are rotated in pairs");
}

MixerEntry sliding_attention_mixer() {
  return mixer_entry<SlidingAttention>("sliding_attention", "softmax attention to the latest tokens, rotary positions",
                                       "attention");
}

}  // namespace klab
