// SPDX-License-Identifier: Apache-2.0
#include "core/model/attention_mixer.h"

#include "core/model/layers.h"
#include "core/model/mixer_probe.h"
#include "kernels/attention/attention.h"

namespace klab {

using torch::Tensor;

Tensor AttentionMixer::attend(const kernels::AttentionInputs& inputs) {
  if (records()) record(inputs);
  return attention(inputs, probe_);
}

void AttentionMixer::record(const kernels::AttentionInputs& inputs) {
  const Tensor largest = kernels::largest_logits(inputs);
  largest_ = largest_.defined() ? torch::maximum(largest_, largest) : largest;
}

void scale_rows(const Tensor& weight, const Tensor& factors, int64_t first, int64_t count) {
  if (!has_memory(weight)) return;
  const torch::NoGradGuard no_grad;
  const int64_t H = factors.size(0);
  weight.view({H, weight.size(0) / H, -1}).narrow(1, first, count).mul_(factors.to(weight).view({H, 1, 1}));
}

}  // namespace klab
