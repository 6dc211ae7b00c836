// SPDX-License-Identifier: Apache-2.0
// What softmax attention mixers have in common: their logits can be recorded and scaled, for QK-Clip.
#pragma once

#include <utility>

#include "core/model/token_mixer.h"

namespace klab {

namespace kernels {
struct AttentionInputs;  // kernels/attention/attention.h
}

class AttentionMixer : public TokenMixer {
 public:
  /// Whether forward() records the largest logit of each head; it does so only where gradients are recorded, so that
  /// evaluation leaves no trace. Costs one more product of queries and keys.
  void record_logits(bool record) { record_ = record; }

  /// The largest logit (scaled, before the softmax, without forget gates) of each head since the last call, [H]
  /// float32; undefined if there was none.
  torch::Tensor take_largest_logits() { return std::exchange(largest_, {}); }

  /// Changes the weights so that the logits of head h are multiplied by factors[h]; heads with factor 1 keep their
  /// weights to the bit, and values do not change. factors [H] float32, positive.
  virtual void scale_logits(const torch::Tensor& factors) = 0;
  /// Whether it can: not where queries and keys are normalised after their projections, which bounds the logits.
  virtual bool can_scale_logits() const { return true; }

 protected:
  /// attention() of core/model/mixer_probe.h, recorded.
  torch::Tensor attend(const kernels::AttentionInputs& inputs);
  /// Records the logits of these queries and keys.
  void record(const kernels::AttentionInputs& inputs);
  bool records() const { return record_ && torch::GradMode::is_enabled(); }

 private:
  bool record_ = false;
  torch::Tensor largest_;
};

/// Multiplies rows [h * block + first, .. + count) of a weight [H * block, D] by factors[h].
void scale_rows(const torch::Tensor& weight, const torch::Tensor& factors, int64_t first, int64_t count);

}  // namespace klab
