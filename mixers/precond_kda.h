// SPDX-License-Identifier: Apache-2.0
// Preconditioned Kimi Delta Attention.
#pragma once

#include "mixers/preconditioner.h"

namespace klab {

/// KDA with the preconditioner of arXiv 2604.21100 (mixers/preconditioner.h).
class PrecondKda : public PreconditionedMixer {
 public:
  using Options = PreconditionedOptions<ChannelDecayOptions>;

  PrecondKda(const MixerShape& shape, const Options& options);
  void initialise(const at::Generator& generator) override;

 protected:
  torch::Tensor log_decay(const torch::Tensor& x) const override { return decay_.value(x); }

 private:
  ChannelDecay decay_;
};

}  // namespace klab
