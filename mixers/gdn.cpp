// SPDX-License-Identifier: Apache-2.0
#include "mixers/gdn.h"

#include <torch/nn/module.h>

#include "mixers/registry.h"

namespace klab {

GatedDeltaNet::GatedDeltaNet(const MixerShape& shape, const Options& options, int64_t writes)
    : LinearMixer(shape, options, {.update = kernels::Update::delta, .writes = writes}),
      beta_(*this, width_, writes * value_heads_, options.allow_neg_eigval),
      decay_(*this, width_, value_heads_) {}

void GatedDeltaNet::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences&, State*) const {
  in.qk_l2norm = true;
  beta_.give_to(in, x);
  decay_.give_to(in, x);
}

MixerEntry gdn_mixer() {
  return mixer_entry<GatedDeltaNet>("gdn", "Gated DeltaNet: delta rule, one decay per head", "recurrence/scalar/delta");
}

}  // namespace klab
