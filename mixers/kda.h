// Kimi Delta Attention.
#pragma once

#include "mixers/gated_delta.h"

namespace klab {

/// The gated delta mixer with a decay per channel (section 4 of arXiv 2510.26692):
///     g = -exp(A_log[h]) softplus(W_up W_down x + dt_bias)       or with a lower bound, see kernels/kda_gate.h
class Kda : public GatedDeltaMixer {
 public:
  struct Options : GatedDeltaOptions {
    double lower_bound = 0;
    void visit(Fields& fields) override;
  };

  Kda(const MixerShape& shape, const Options& options);
  void initialise(const at::Generator& generator) override;

 protected:
  torch::Tensor raw_decay(const torch::Tensor& x) const override;
  kernels::RecurrenceGate gate() const override;

 private:
  std::optional<double> lower_bound_;
  Linear f_a_proj_, f_b_proj_;  // rank: the head width
  torch::Tensor A_log_;         // [HV]
  torch::Tensor dt_bias_;       // [HV * K]
};

}  // namespace klab
