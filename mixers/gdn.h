// SPDX-License-Identifier: Apache-2.0
// Gated DeltaNet.
#pragma once

#include "mixers/gates.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// The delta rule with one decay per head (Yang et al. 2024, arXiv 2412.06464). Output gate and widths are KDA's, so
/// that a comparison isolates the decay; the public layer has `output_gate: swish` and `full_rank_gates: true`.
class GatedDeltaNet : public LinearMixer {
 public:
  using Options = DeltaOptions;

  GatedDeltaNet(const MixerShape& shape, const Options& options) : GatedDeltaNet(shape, options, /*writes=*/1) {}
  void initialise(const at::Generator& generator) override { decay_.initialise(generator); }

 protected:
  GatedDeltaNet(const MixerShape& shape, const Options& options, int64_t writes);
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;
  std::vector<Linear> gate_projections() const override { return {beta_.projection(), decay_.projection()}; }

 private:
  Beta beta_;
  HeadDecay decay_;
};

}  // namespace klab
