// SPDX-License-Identifier: Apache-2.0
// RetNet.
#pragma once

#include "mixers/linear_mixer.h"

namespace klab {

/// Multi-scale retention (Sun et al. 2023, arXiv 2307.08621): S = d S + k v^T with the fixed decay d = 1 - 2^-(5 + h)
/// of head h, with rotary position embedding of q and k. In the public layer values are twice as wide as keys
/// (`value_dim`).
class RetNet : public LinearMixer {
 public:
  struct Options : LinearOptions {
    double rope_base = 10000;
    Options() {
      output_gate = "swish";
      full_rank_gates = true;
      short_conv = false;
    }
    void visit(Fields& fields) override;
  };

  RetNet(const MixerShape& shape, const Options& options);

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;

 private:
  double rope_base_;
};

}  // namespace klab
