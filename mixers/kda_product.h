// SPDX-License-Identifier: Apache-2.0
// KDA with several writes per token.
#pragma once

#include "mixers/gates.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// KDA with several writes per token, as in gated DeltaProduct (mixers/gated_deltaproduct.h).
class KdaProduct : public LinearMixer {
 public:
  struct Options : ChannelDecayOptions {
    int64_t writes = 2;
    Options() { allow_neg_eigval = true; }
    void visit(Fields& fields) override;
  };

  KdaProduct(const MixerShape& shape, const Options& options);
  void initialise(const at::Generator& generator) override { decay_.initialise(generator); }

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;
  std::vector<Linear> gate_projections() const override { return {beta_.projection(), decay_.projection()}; }

 private:
  Beta beta_;
  ChannelDecay decay_;
};

}  // namespace klab
