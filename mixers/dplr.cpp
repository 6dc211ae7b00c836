// SPDX-License-Identifier: Apache-2.0
#include "mixers/dplr.h"

#include <torch/nn/module.h>

#include "kernels/common/checks.h"
#include "kernels/norms/norms.h"
#include "mixers/registry.h"

namespace klab {

using torch::Tensor;

Dplr::Dplr(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options, {kernels::Update::dplr}),
      beta_(*this, width_, value_heads_, options.allow_neg_eigval),
      decay_(*this, width_, value_heads_, key_dim_, options.full_rank_decay(), options.lower_bound),
      write_proj_(register_module("write_proj", Linear(width_, value_heads_ * key_dim_))),
      read_proj_(register_module("read_proj", Linear(width_, value_heads_ * key_dim_))) {}

void Dplr::initialise(const at::Generator& generator) {
  decay_.initialise(generator);
  read_proj_->weight.copy_(write_proj_->weight);
}

void Dplr::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences&, State*) const {
  const auto wide = kernels::accumulation_type(x.tensor().scalar_type());
  const auto direction = [&](const Linear& projection) {
    return kernels::l2norm(by_value_head(projection->forward(x)).to(wide));
  };
  in.qk_l2norm = true;
  decay_.give_to(in, x);
  // In the kernel's naming b is written and a reads.
  in.b = -beta_.value(x).unsqueeze(-1) * direction(write_proj_);
  in.a = direction(read_proj_);
}

MixerEntry dplr_mixer() {
  return mixer_entry<Dplr>("dplr", "diagonal plus low rank: two independent vectors, decay per channel",
                           "recurrence/channel/dplr");
}

}  // namespace klab
