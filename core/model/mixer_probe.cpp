// SPDX-License-Identifier: Apache-2.0
#include "core/model/mixer_probe.h"

#include <torch/nn/module.h>

namespace klab {

torch::Tensor attention(const kernels::AttentionInputs& in, const MixerProbe* probe) {
  torch::Tensor o = kernels::attention(in);
  if (probe != nullptr && probe->attention) probe->attention(in, o);
  return o;
}

}  // namespace klab
