// SPDX-License-Identifier: Apache-2.0
// Diagonal plus low rank, in its general form.
#pragma once

#include "mixers/gates.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// S = (Diag(e^g) - beta a b^T) S + k v^T with independent a and b (table 6 of arXiv 2510.26692): a = l2norm(W_a x)
/// is written, b = l2norm(W_b x) reads the undecayed state. W_a and W_b are initialised equal, so that at the start of
/// training a step can only shrink the state; unlike in KDA, nothing prevents growth later. q and k are l2-normalised.
class Dplr : public LinearMixer {
 public:
  using Options = ChannelDecayOptions;

  Dplr(const MixerShape& shape, const Options& options);
  void initialise(const at::Generator& generator) override;

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;

 private:
  Beta beta_;
  ChannelDecay decay_;
  Linear write_proj_, read_proj_;
};

}  // namespace klab
