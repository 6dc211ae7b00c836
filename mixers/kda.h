// SPDX-License-Identifier: Apache-2.0
// Kimi Delta Attention.
#pragma once

#include "mixers/gates.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// The delta rule with a decay per channel (section 4 of arXiv 2510.26692), with l2-normalised q and k:
///     S = Diag(e^g) S;  S = S + beta k (v - S^T k)^T
/// with the log-decay g of ChannelDecay (mixers/gates.h).
class Kda : public LinearMixer {
 public:
  using Options = ChannelDecayOptions;

  Kda(const MixerShape& shape, const Options& options) : Kda(shape, options, /*writes=*/1) {}
  void initialise(const at::Generator& generator) override { decay_.initialise(generator); }

 protected:
  Kda(const MixerShape& shape, const Options& options, int64_t writes);
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;
  std::vector<Linear> gate_projections() const override { return {beta_.projection(), decay_.projection()}; }

 private:
  Beta beta_;
  ChannelDecay decay_;
};

}  // namespace klab
