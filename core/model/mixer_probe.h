// Looks into token mixers while they run.
#pragma once

#include <torch/types.h>

#include <functional>

#include "kernels/attention/attention.h"
#include "kernels/recurrence/recurrence.h"

namespace klab {

/// Is shown what a mixer gives to its kernel and what comes out, before norm, gate and output projection: once for
/// every run of the kernel (packed sequences take several in the attention mixers). The recurrence's gates may still be
/// raw (kernels::activated). For forward passes without a state: over a state that is overwritten, the initial one is
/// gone by then, and latent attention over a cache runs in other forms, which are not shown. An empty function is not
/// called.
struct MixerProbe {
  std::function<void(const kernels::RecurrenceInputs& in, const torch::Tensor& o)> recurrence;
  std::function<void(const kernels::AttentionInputs& in, const torch::Tensor& o)> attention;
};

/// kernels::attention, shown to `probe` unless that is null.
torch::Tensor attention(const kernels::AttentionInputs& in, const MixerProbe* probe);

}  // namespace klab
