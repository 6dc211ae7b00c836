// SPDX-License-Identifier: Apache-2.0
// Softmax attention with a sliding window.
#pragma once

#include "mixers/attention.h"

namespace klab {

/// Attention to the `window` latest tokens (Beltagy et al. 2020, arXiv 2004.05150; the local layers of most hybrids of
/// softmax attention), with rotary positions or without. Its state does not grow with the sequence.
class SlidingAttention : public Attention {
 public:
  struct Options : Attention::Options {
    int64_t window = 128;
    double rope_base = 10000;
    void visit(Fields& fields) override;
  };

  SlidingAttention(const MixerShape& shape, const Options& options);
};

}  // namespace klab
