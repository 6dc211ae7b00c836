// SPDX-License-Identifier: Apache-2.0
// Preconditioned Gated DeltaNet.
#pragma once

#include "mixers/preconditioner.h"

namespace klab {

/// Gated DeltaNet with the preconditioner of arXiv 2604.21100 (mixers/preconditioner.h).
class PrecondGdn : public PreconditionedMixer {
 public:
  using Options = PreconditionedOptions<DeltaOptions>;

  PrecondGdn(const MixerShape& shape, const Options& options);
  void initialise(const at::Generator& generator) override;

 protected:
  torch::Tensor log_decay(const torch::Tensor& x) const override { return decay_.value(x); }

 private:
  HeadDecay decay_;
};

}  // namespace klab
