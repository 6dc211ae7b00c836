#include "mixers/gdn.h"

#include <torch/torch.h>

#include "mixers/decay.h"
#include "mixers/registry.h"

namespace klab {

GatedDeltaNet::GatedDeltaNet(const MixerShape& shape, const Options& options)
    : GatedDeltaMixer(shape, options),
      a_proj_(register_module("a_proj", Linear(shape.width, value_heads_))),
      A_log_(register_parameter("A_log", torch::zeros({value_heads_}))),
      dt_bias_(register_parameter("dt_bias", torch::zeros({value_heads_}))) {}

void GatedDeltaNet::initialise(const at::Generator& generator) {
  draw_A_log(A_log_, generator);
  draw_dt_bias(dt_bias_, generator);
}

torch::Tensor GatedDeltaNet::raw_decay(const torch::Tensor& x) const { return a_proj_->forward(x); }

kernels::RecurrenceGate GatedDeltaNet::gate() const { return {A_log_, dt_bias_}; }

MixerEntry gdn_mixer() { return mixer_entry<GatedDeltaNet>("gdn", "Gated DeltaNet: delta rule, one decay per head"); }

}  // namespace klab
