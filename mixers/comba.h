// SPDX-License-Identifier: Apache-2.0
// Comba.
#pragma once

#include "mixers/gates.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// The delta rule that erases along p instead of k and corrects queries by the same p (Hu et al. 2025, arXiv
/// 2506.02475), with l2-normalised q and k:
///     p = sigmoid(d[h]) k    q = q - D[h] p    S = e^g S;  S = S + beta k (v - S^T p)^T
/// (The public code l2-normalises q and p after these steps, which undoes the scale of p; here the scale is kept.)
/// As DPLR: a = e^g p reads the undecayed state, b = -beta k, and beta k is the key.
class Comba : public LinearMixer {
 public:
  using Options = DeltaOptions;

  Comba(const MixerShape& shape, const Options& options);
  void initialise(const at::Generator& generator) override { decay_.initialise(generator); }

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;

 private:
  Beta beta_;
  HeadDecay decay_;
  torch::Tensor decay_of_p_, D_;  // [HV], the public layer's `decay` and `D`
};

}  // namespace klab
