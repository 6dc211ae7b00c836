// SPDX-License-Identifier: Apache-2.0
// Observes the kernels of token mixers.
#pragma once

#include <torch/types.h>

#include <functional>

#include "kernels/attention/attention.h"
#include "kernels/recurrence/recurrence.h"

namespace klab {

/// Receives the inputs and the output of a mixer's kernel, before norm, gate and output projection: once per kernel
/// call (attention mixers make several for packed sequences). The gates of the recurrence may still be raw
/// (kernels::activated). Only for forward passes without a state: with one, the initial state may already be
/// overwritten, and latent attention over a cache uses other kernels, which are not observed. Empty functions are not
/// called. Mixers that read or write their memory in other ways than the recurrence does are not observed: Mamba-3,
/// log-linear attention, momentum, Oja.
struct MixerProbe {
  std::function<void(const kernels::RecurrenceInputs& in, const torch::Tensor& o)> recurrence;
  std::function<void(const kernels::AttentionInputs& in, const torch::Tensor& o)> attention;
};

/// kernels::attention, observed by `probe` if that is not null.
torch::Tensor attention(const kernels::AttentionInputs& in, const MixerProbe* probe);

}  // namespace klab
