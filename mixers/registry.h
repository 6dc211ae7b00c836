// SPDX-License-Identifier: Apache-2.0
// All token mixers by name.
#pragma once

#include "core/model/token_mixer.h"

/// Every mixer, in the order of `klab model --list`. X(name) needs a function `MixerEntry name_mixer()`; a new mixer
/// adds its file pair in mixers/ and one line here.
#define KLAB_MIXERS(X)  \
  X(kda)                \
  X(gdn)                \
  X(mamba2)             \
  X(mamba3)             \
  X(mamba3_mimo)        \
  X(dplr)               \
  X(mla)                \
  X(mla_rope)           \
  X(attention)          \
  X(attention_rope)     \
  X(fox)                \
  X(sliding_attention)  \
  X(gated_attention)    \
  X(gated_mla)          \
  X(linear_attention)   \
  X(retnet)             \
  X(lightning)          \
  X(gla)                \
  X(hgrn2)              \
  X(deltanet)           \
  X(longhorn)           \
  X(comba)              \
  X(gdn2)               \
  X(log_linear_gdn)     \
  X(log_linear_mamba2)  \
  X(gated_deltaproduct) \
  X(kda_product)        \
  X(momentum_deltanet)  \
  X(gated_oja)          \
  X(precond_gdn)        \
  X(precond_kda)        \
  X(rwkv7)

namespace klab {

#define KLAB_DECLARE_MIXER(name) MixerEntry name##_mixer();
KLAB_MIXERS(KLAB_DECLARE_MIXER)
#undef KLAB_DECLARE_MIXER

const Registry<MixerEntry>& mixers();

}  // namespace klab
