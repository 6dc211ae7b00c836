// SPDX-License-Identifier: Apache-2.0
// Longhorn.
#pragma once

#include "mixers/linear_mixer.h"

namespace klab {

/// Longhorn (Liu et al. 2024, arXiv 2407.14207) as in table 6 of arXiv 2510.26692: one implicit step of online
/// regression, which is the delta rule with a step size that decreases with the norm of the key,
///     S = S + e k (v - S^T k)^T      e = delta / (1 + delta k^T k)      delta = sigmoid(W x)
class Longhorn : public LinearMixer {
 public:
  struct Options : LinearOptions {
    Options() { output_gate = "none"; }
  };

  Longhorn(const MixerShape& shape, const Options& options);

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;

 private:
  Linear delta_proj_;
};

}  // namespace klab
