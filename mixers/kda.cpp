#include "mixers/kda.h"

#include <torch/torch.h>

#include "mixers/decay.h"
#include "mixers/registry.h"

namespace klab {

void Kda::Options::visit(Fields& fields) {
  GatedDeltaOptions::visit(fields);
  fields("lower_bound", lower_bound, "smallest log-decay of the bounded gate, in [-5, 0); 0: the softplus gate");
}

Kda::Kda(const MixerShape& shape, const Options& options)
    : GatedDeltaMixer(shape, options),
      lower_bound_(options.lower_bound == 0 ? std::nullopt : std::optional<double>(options.lower_bound)),
      f_a_proj_(register_module("f_a_proj", Linear(shape.width, key_dim_))),
      f_b_proj_(register_module("f_b_proj", Linear(key_dim_, value_heads_ * key_dim_))),
      A_log_(register_parameter("A_log", torch::zeros({value_heads_}))),
      dt_bias_(register_parameter("dt_bias", torch::zeros({value_heads_ * key_dim_}))) {
  require(options.lower_bound >= -5 && options.lower_bound <= 0, "model.kda.lower_bound",
          fmt::format("{}", options.lower_bound), "must lie in [-5, 0), or be 0 for the softplus gate");
}

void Kda::initialise(const at::Generator& generator) {
  draw_A_log(A_log_, generator);
  draw_dt_bias(dt_bias_, generator);
}

torch::Tensor Kda::raw_decay(const torch::Tensor& x) const {
  return f_b_proj_->forward(f_a_proj_->forward(x)).view({x.size(0), x.size(1), value_heads_, key_dim_});
}

kernels::RecurrenceGate Kda::gate() const { return {A_log_, dt_bias_, lower_bound_}; }

MixerEntry kda_mixer() { return mixer_entry<Kda>("kda", "Kimi Delta Attention: delta rule, decay per channel"); }

}  // namespace klab
