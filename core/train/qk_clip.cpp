// SPDX-License-Identifier: Apache-2.0
#include "core/train/qk_clip.h"

#include <limits>

namespace klab {

using torch::Tensor;

QkClip::QkClip(const Decoder& model, double limit) : limit_(limit) {
  for (const std::shared_ptr<torch::nn::Module>& module : model->modules()) {
    auto mixer = std::dynamic_pointer_cast<AttentionMixer>(module);
    if (mixer == nullptr) continue;
    mixer->record_logits(true);
    mixers_.push_back(std::move(mixer));
  }
}

double QkClip::after_step() {
  double largest = -std::numeric_limits<double>::infinity();
  for (const std::shared_ptr<AttentionMixer>& mixer : mixers_) {
    const Tensor logits = mixer->take_largest_logits();
    if (!logits.defined()) continue;
    const double here = logits.max().item<double>();
    if (here > limit_) mixer->scale_logits(limit_ / logits.clamp_min(limit_));
    largest = std::max(largest, here);
  }
  return largest;
}

}  // namespace klab
