// SPDX-License-Identifier: Apache-2.0
// Preconditioned Gated DeltaNet.
#pragma once

#include "mixers/preconditioner.h"

namespace klab {

/// Gated DeltaNet with the preconditioner of arXiv 2604.21100 (mixers/preconditioner.h).
class PrecondGdn : public LinearMixer {
 public:
  struct Options : DeltaOptions {
    double squash = 1.5;
    void visit(Fields& fields) override;
  };

  PrecondGdn(const MixerShape& shape, const Options& options);
  void initialise(const at::Generator& generator) override;
  double flops(int64_t tokens) const override;
  double decode_flops(int64_t tokens) const override;

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;
  void add_state(State& state, int64_t sequences, const torch::Device& device) const override;

 private:
  Beta beta_;
  HeadDecay decay_;
  Preconditioner preconditioner_;
};

}  // namespace klab
