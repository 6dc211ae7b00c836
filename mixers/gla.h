// SPDX-License-Identifier: Apache-2.0
// Gated linear attention.
#pragma once

#include "mixers/linear_mixer.h"

namespace klab {

/// S = Diag(e^g) S + k v^T with g = logsigmoid(W_up W_down x + bias) / 16 (Yang et al. 2023, arXiv 2312.06635). In the
/// public layer keys are half as wide as values (`key_dim`).
class Gla : public LinearMixer {
 public:
  struct Options : LinearOptions {
    int64_t gate_rank = 16;
    double gate_divisor = 16;
    Options() {
      output_gate = "swish";
      full_rank_gates = true;
      short_conv = false;
    }
    void visit(Fields& fields) override;
  };

  Gla(const MixerShape& shape, const Options& options);

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;

 private:
  double gate_divisor_;
  Linear gk_a_proj_, gk_b_proj_;
};

}  // namespace klab
