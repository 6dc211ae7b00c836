// SPDX-License-Identifier: Apache-2.0
// The cross-entropy of a model's predictions, without all logits in memory.
#pragma once

#include <torch/types.h>

#include "core/model/decoder.h"

namespace klab {

/// Predictions of N targets.
struct TargetLoss {
  torch::Tensor mean;    ///< mean cross-entropy in nats, float32, differentiable
  torch::Tensor losses;  ///< [N] float32, without gradient; may be undefined unless asked for
  torch::Tensor wrong;   ///< [N] int64, 1 where the largest logit is another token's
};

/// The loss of final hidden states [N, D] under the model's output head, for labels [N] int64. Logits are rounded to
/// float32. Up to `kLogitsAtOnce` of them are in memory at a time: more targets are taken in parts, and in training the
/// gradients of both products are computed with each part, in the forward pass.
/// With `each`, also gives the loss of each target.
TargetLoss target_loss(const Decoder& model, const torch::Tensor& hidden, const torch::Tensor& labels,
                       bool each = false);

constexpr int64_t kLogitsAtOnce = int64_t{1} << 22;

}  // namespace klab
