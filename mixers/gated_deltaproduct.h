// SPDX-License-Identifier: Apache-2.0
// Gated DeltaProduct.
#pragma once

#include "mixers/gdn.h"

namespace klab {

/// Gated DeltaProduct (Siems et al. 2025, arXiv 2502.10297): Gated DeltaNet with several writes per token, each a step
/// of the delta rule with a key, a value and a strength of its own. The state decays once per token, before the first,
/// and q reads it after the last. With negative eigenvalues the writes are reflections, whose products include
/// rotations.
class GatedDeltaProduct : public GatedDeltaNet {
 public:
  struct Options : DeltaOptions {
    int64_t writes = 2;
    Options() { allow_neg_eigval = true; }
    void visit(Fields& fields) override;
  };

  GatedDeltaProduct(const MixerShape& shape, const Options& options) : GatedDeltaNet(shape, options, options.writes) {}
};

}  // namespace klab
