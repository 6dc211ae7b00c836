// SPDX-License-Identifier: Apache-2.0
// KDA with several writes per token.
#pragma once

#include "mixers/kda.h"

namespace klab {

/// KDA with several writes per token, as in gated DeltaProduct (mixers/gated_deltaproduct.h).
class KdaProduct : public Kda {
 public:
  struct Options : ChannelDecayOptions {
    int64_t writes = 2;
    Options() { allow_neg_eigval = true; }
    void visit(Fields& fields) override;
  };

  KdaProduct(const MixerShape& shape, const Options& options) : Kda(shape, options, options.writes) {}
};

}  // namespace klab
