// SPDX-License-Identifier: Apache-2.0
#include "mixers/gated_attention.h"

#include <cmath>

#include "mixers/registry.h"

namespace klab {
namespace {

// With the heads of the options.
MixerShape own_shape(MixerShape shape, const GatedAttention::Options& options) {
  if (options.heads > 0) shape.heads = options.heads;
  if (options.head_dim > 0) shape.head_dim = options.head_dim;
  return shape;
}

// An even number of channels; of widths for which the fraction gives none or an odd one, the next smaller even one.
int64_t rotated_channels(const MixerShape& shape, double fraction) {
  return static_cast<int64_t>(std::lround(fraction * static_cast<double>(shape.head_dim))) / 2 * 2;
}

}  // namespace

void GatedAttention::Options::visit(Fields& fields) {
  RopeOptions::visit(fields);
  fields("rope_fraction", rope_fraction, {0, 1}, "fraction of a head's channels that are rotated, the first ones");
  fields("qk_norm", qk_norm, "an RMS norm over every query and key head");
  fields("output_gate", output_gate, "multiply the output by the sigmoid of a projection");
  fields("window", window, {0, 1 << 20}, "tokens that a query attends to, its own among them; 0: all");
  fields("heads", heads, {0, 4096}, "number of query heads; 0: model.heads");
  fields("head_dim", head_dim, {0, 8192}, "width of a head; 0: model.head_dim");
}

GatedAttention::GatedAttention(const MixerShape& shape, const Options& options)
    : Attention(
          own_shape(shape, options), options,
          {.rope_base = rotated_channels(own_shape(shape, options), options.rope_fraction) > 0 ? options.rope_base : 0,
           .rope_dim = rotated_channels(own_shape(shape, options), options.rope_fraction),
           .window = options.window,
           .qk_norm = options.qk_norm,
           .output_gate = options.output_gate}) {}

MixerEntry gated_attention_mixer() {
  return mixer_entry<GatedAttention>(
      "gated_attention", "softmax attention with output gate, normalised queries and keys, partial rotary positions",
      "attention");
}

}  // namespace klab
