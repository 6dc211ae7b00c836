// SPDX-License-Identifier: Apache-2.0
// Lightning attention.
#pragma once

#include "mixers/linear_mixer.h"

namespace klab {

/// S = e^-s S + k v^T with one fixed decay per head and layer (TransNormerLLM; MiniMax-01, arXiv 2501.08313): for head
/// h of H in layer l of L
///     s = 2^(-8 (h + 1) / H) (1 - l / (L - 1))
/// so that the last layer forgets nothing. q, k and v are activated by SiLU; one norm over all heads, then a gate.
class Lightning : public LinearMixer {
 public:
  struct Options : LinearOptions {
    Options() {
      full_rank_gates = true;
      short_conv = false;
    }
  };

  Lightning(const MixerShape& shape, const Options& options);

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;

 private:
  double layer_factor_;
};

}  // namespace klab
