// SPDX-License-Identifier: Apache-2.0
// Gated DeltaNet 2.
#pragma once

#include "mixers/gates.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// The delta rule with an erase gate per key channel and a write gate per value channel; q and k are l2-normalised:
///     S = (I - k (b * k)^T) Diag(e^g) S + k (w * v)^T      b = sigmoid(W_b x)   w = sigmoid(W_w x)
/// With b = w = beta it is KDA. As DPLR: a = e^g * b * k reads the undecayed state, -k is written.
class Gdn2 : public LinearMixer {
 public:
  using Options = ChannelDecayOptions;

  Gdn2(const MixerShape& shape, const Options& options);
  void initialise(const at::Generator& generator) override { decay_.initialise(generator); }

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;

 private:
  bool allow_neg_eigval_;
  ChannelDecay decay_;
  Linear b_proj_, w_proj_;
};

}  // namespace klab
