// SPDX-License-Identifier: Apache-2.0
#include "core/train/qk_clip.h"

#include <limits>

namespace klab {

using torch::Tensor;

QkClip::Mixers QkClip::mixers_of(const Decoder& model) {
  Mixers mixers;
  for (const std::shared_ptr<torch::nn::Module>& module : model->modules()) {
    auto mixer = std::dynamic_pointer_cast<AttentionMixer>(module);
    if (mixer != nullptr) mixers.push_back(std::move(mixer));
  }
  return mixers;
}

QkClip::QkClip(const Decoder& model, const Decoder& computing, double limit)
    : limit_(limit), scaled_(mixers_of(model)), recording_(mixers_of(computing)) {
  for (const std::shared_ptr<AttentionMixer>& mixer : recording_) mixer->record_logits(true);
}

double QkClip::after_step(RankGroup& ranks) {
  double largest = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < recording_.size(); ++i) {
    Tensor logits = recording_[i]->take_largest_logits();
    if (!logits.defined()) continue;
    logits = ranks.largest(logits);
    const double here = logits.max().item<double>();
    if (here > limit_ && scaled_[i]->can_scale_logits()) scaled_[i]->scale_logits(limit_ / logits.clamp_min(limit_));
    largest = std::max(largest, here);
  }
  return largest;
}

}  // namespace klab
