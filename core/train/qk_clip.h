// SPDX-License-Identifier: Apache-2.0
// QK-Clip: keeps attention logits from growing.
#pragma once

#include <vector>

#include "core/model/attention_mixer.h"
#include "core/model/decoder.h"

namespace klab {

/// After an optimiser step, divides the logits of every attention head whose largest logit in that step's forward
/// passes exceeded `limit` by its excess, so that it would have been `limit` (MuonClip; Kimi K2, arXiv 2507.20534).
class QkClip {
 public:
  /// Makes the attention mixers of `computing` record their logits. Weights are scaled in `model`: the same one, or the
  /// one of which `computing` is a working copy.
  QkClip(const Decoder& model, const Decoder& computing, double limit);
  QkClip(const Decoder& model, double limit) : QkClip(model, model, limit) {}

  /// For all ranks of the step. Returns the largest logit before clipping, -infinity without attention.
  double after_step(RankGroup& ranks);

 private:
  using Mixers = std::vector<std::shared_ptr<AttentionMixer>>;
  static Mixers mixers_of(const Decoder& model);

  double limit_;
  Mixers scaled_, recording_;  // the same mixers of both models, in the same order
};

}  // namespace klab
