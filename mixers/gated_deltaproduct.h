// SPDX-License-Identifier: Apache-2.0
// Gated DeltaProduct.
#pragma once

#include "mixers/gates.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// Gated DeltaProduct (Siems et al. 2025, arXiv 2502.10297): Gated DeltaNet with several writes per token, each a step
/// of the delta rule with a key, a value and a strength of its own. The state decays once per token, before the first,
/// and q reads it after the last. With negative eigenvalues the writes are reflections, whose products include
/// rotations.
class GatedDeltaProduct : public LinearMixer {
 public:
  struct Options : DeltaOptions {
    int64_t writes = 2;
    Options() { allow_neg_eigval = true; }
    void visit(Fields& fields) override;
  };

  GatedDeltaProduct(const MixerShape& shape, const Options& options);
  void initialise(const at::Generator& generator) override { decay_.initialise(generator); }

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;
  std::vector<Linear> gate_projections() const override { return {beta_.projection(), decay_.projection()}; }

 private:
  Beta beta_;
  HeadDecay decay_;
};

}  // namespace klab
