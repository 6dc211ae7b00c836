// SPDX-License-Identifier: Apache-2.0
// The forgetting transformer.
#pragma once

#include "mixers/attention.h"

namespace klab {

/// Softmax attention with a data-dependent forget gate per head, f = sigmoid(W x + bias), that decays the logits (Lin
/// et al. 2025, arXiv 2503.02130). Caches log f [N, S, H] in addition to keys and values.
class Fox : public Attention {
 public:
  using Options = Attention::Options;
  Fox(const MixerShape& shape, const Options& options);

 protected:
  torch::Tensor log_forget(const torch::Tensor& x) const override;
  void add_state(State& state, int64_t sequences, const torch::Device& device) const override;

 private:
  Linear f_proj_;
};

}  // namespace klab
