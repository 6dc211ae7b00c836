// SPDX-License-Identifier: Apache-2.0
#include "mixers/deltanet.h"

#include <torch/nn/module.h>

#include "mixers/registry.h"

namespace klab {

DeltaNet::DeltaNet(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options, {kernels::Update::delta}),
      beta_(*this, width_, value_heads_, options.allow_neg_eigval) {}

void DeltaNet::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences&, State*) const {
  in.qk_l2norm = true;
  beta_.give_to(in, x);
}

MixerEntry deltanet_mixer() {
  return mixer_entry<DeltaNet>("deltanet", "DeltaNet: delta rule, no decay", "recurrence/none/delta");
}

}  // namespace klab
