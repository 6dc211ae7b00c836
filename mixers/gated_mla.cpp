// SPDX-License-Identifier: Apache-2.0
#include "mixers/gated_mla.h"

#include <torch/nn/module.h>

#include "mixers/registry.h"

namespace klab {

GatedMla::GatedMla(const MixerShape& shape, const Options& options)
    : Mla(shape, options), g_proj_(register_module("g_proj", Linear(shape.width, heads_ * value_dim_))) {}

MixerEntry gated_mla_mixer() {
  return mixer_entry<GatedMla>("gated_mla", "latent attention without positions (NoPE), with an output gate",
                               "attention; latent_attention for decode");
}

}  // namespace klab
