// SPDX-License-Identifier: Apache-2.0
// Latent attention with an output gate.
#pragma once

#include "mixers/mla.h"

namespace klab {

/// MLA without positions whose output is multiplied by the sigmoid of a projection of x, of its own width, as in Kimi
/// K3 (gated attention: Qiu et al. 2025, arXiv 2505.06708).
class GatedMla : public Mla {
 public:
  GatedMla(const MixerShape& shape, const Options& options);

 protected:
  Linear output_gate() const override { return g_proj_; }

 private:
  Linear g_proj_;
};

}  // namespace klab
