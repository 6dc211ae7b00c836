// SPDX-License-Identifier: Apache-2.0
// Gated Oja.
#pragma once

#include "mixers/gates.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// KDA with the roles of keys and values exchanged (the gated Oja rule of fla-core): the state decays along the value
/// channels, predicts the key from the value, and is corrected by the error,
///     S = S diag(exp(g))    S = S + beta (k - S v) v^T    o = S^T q
/// Values have unit length, as keys have in KDA, which keeps S bounded. The state's `memory` is S^T, [N, HV, V, K].
class GatedOja : public LinearMixer {
 public:
  using Options = ChannelDecayOptions;

  GatedOja(const MixerShape& shape, const Options& options);
  void initialise(const at::Generator& generator) override { decay_.initialise(generator); }
  double flops(int64_t tokens) const override;
  double decode_flops(int64_t tokens) const override;

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;
  torch::Tensor recur(const kernels::RecurrenceInputs& in, const torch::Tensor& x, const Sequences& sequences,
                      State* state) const override;
  void add_state(State& state, int64_t sequences, const torch::Device& device) const override;

 private:
  Beta beta_;
  ChannelDecay decay_;
};

}  // namespace klab
