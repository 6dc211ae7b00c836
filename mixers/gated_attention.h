// SPDX-License-Identifier: Apache-2.0
// Gated softmax attention.
#pragma once

#include "mixers/attention.h"

namespace klab {

/// The softmax attention layer of Qwen3-Next and Qwen3.5: queries and keys are normalised per head, then rotated in
/// some of their channels, and the output is multiplied by the sigmoid of a gate of its own width (Qiu et al. 2025,
/// arXiv 2505.06708). The rows of q_proj are, for each head, those of its query and then those of its gate.
class GatedAttention : public Attention {
 public:
  struct Options : RopeOptions {
    double rope_fraction = 0.25;
    bool qk_norm = true;
    bool output_gate = true;
    int64_t window = 0;
    int64_t heads = 0;
    int64_t head_dim = 0;
    void visit(Fields& fields) override;
  };

  GatedAttention(const MixerShape& shape, const Options& options);
};

}  // namespace klab
