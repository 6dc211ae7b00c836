// Gated DeltaNet.
#pragma once

#include "mixers/gated_delta.h"

namespace klab {

/// The gated delta mixer with one decay per head (Yang et al. 2024): g = -exp(A_log[h]) softplus(W x + dt_bias).
/// Output gate and widths as KDA has them, so that a comparison is about the decay alone.
class GatedDeltaNet : public GatedDeltaMixer {
 public:
  using Options = GatedDeltaOptions;

  GatedDeltaNet(const MixerShape& shape, const Options& options);
  void initialise(const at::Generator& generator) override;

 protected:
  torch::Tensor raw_decay(const torch::Tensor& x) const override;
  kernels::RecurrenceGate gate() const override;

 private:
  Linear a_proj_;
  torch::Tensor A_log_;    // [HV]
  torch::Tensor dt_bias_;  // [HV]
};

}  // namespace klab
