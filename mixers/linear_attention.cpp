// SPDX-License-Identifier: Apache-2.0
#include "mixers/linear_attention.h"

#include <torch/nn/module.h>

#include "mixers/registry.h"

namespace klab {

using torch::Tensor;

void LinearAttention::Options::visit(Fields& fields) {
  LinearOptions::visit(fields);
  fields.choice("feature_map", feature_map, {"elementwise_product", "elu", "relu", "identity"},
                "feature map of q and k");
}

LinearAttention::LinearAttention(const MixerShape& shape, const Options& options)
    : LinearMixer(shape, options, {.update = kernels::Update::accumulate, .activated = false}),
      feature_map_(options.feature_map) {
  if (feature_map_ != "elementwise_product") return;
  q_map1_ = register_module("q_map1", Linear(key_dim_, key_dim_, /*with_bias=*/true));
  q_map2_ = register_module("q_map2", Linear(key_dim_, key_dim_, /*with_bias=*/true));
  k_map1_ = register_module("k_map1", Linear(key_dim_, key_dim_, /*with_bias=*/true));
  k_map2_ = register_module("k_map2", Linear(key_dim_, key_dim_, /*with_bias=*/true));
}

Tensor LinearAttention::features(const Tensor& x, const Linear& one, const Linear& two) const {
  if (feature_map_ == "elementwise_product") return one->forward(x) * two->forward(x);
  if (feature_map_ == "elu") return torch::elu(x) + 1;
  return feature_map_ == "relu" ? torch::relu(x) : x;
}

void LinearAttention::fill_inputs(kernels::RecurrenceInputs& in, const SharedInput&, const Sequences&, State*) const {
  in.q = features(in.q, q_map1_, q_map2_);
  in.k = features(in.k, k_map1_, k_map2_);
}

MixerEntry linear_attention_mixer() {
  return mixer_entry<LinearAttention>("linear_attention", "linear attention: accumulates, no decay",
                                      "recurrence/none/accumulate");
}

}  // namespace klab
