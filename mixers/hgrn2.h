// SPDX-License-Identifier: Apache-2.0
// HGRN2.
#pragma once

#include "mixers/linear_mixer.h"

namespace klab {

/// S = Diag(f) S + (1 - f) v^T with f = lower_bound + (1 - lower_bound) sigmoid(W x), q = silu(W x) and one norm over
/// all heads (Qin et al. 2024, arXiv 2404.07904). The key is 1 - f.
class Hgrn2 : public LinearMixer {
 public:
  struct Options : LinearOptions {
    double lower_bound = 0;
    Options() {
      output_gate = "none";
      short_conv = false;
    }
    void visit(Fields& fields) override;
  };

  Hgrn2(const MixerShape& shape, const Options& options);

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;

 private:
  double lower_bound_;
};

}  // namespace klab
