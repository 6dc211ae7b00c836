// SPDX-License-Identifier: Apache-2.0
// DeltaNet.
#pragma once

#include "mixers/gates.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// The delta rule without a decay (Schlag et al. 2021, Yang et al. 2024, arXiv 2406.06484), with l2-normalised q and k:
///     S = S + beta k (v - S^T k)^T
class DeltaNet : public LinearMixer {
 public:
  struct Options : DeltaOptions {
    Options() { output_gate = "none"; }
  };

  DeltaNet(const MixerShape& shape, const Options& options);

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;

 private:
  Beta beta_;
};

}  // namespace klab
