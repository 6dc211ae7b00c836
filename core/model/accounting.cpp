// SPDX-License-Identifier: Apache-2.0
#include "core/model/accounting.h"

#include <torch/nn/module.h>

namespace klab {

Accounting account(const Decoder& model, int64_t tokens) {
  Accounting sum{};
  int64_t embeddings = 0, idle = 0, head = 0;
  for (const auto& item : model->named_parameters()) {
    const int64_t count = item.value().numel();
    sum.parameters += count;
    if (item.key() == "embedding" || item.key() == "lm_head.weight") embeddings += count;
    if (item.key() == "lm_head.weight") head = count;
    if (item.key() == "embedding" && model->config().tie_embeddings) head = count;
  }
  for (const DecoderLayer& layer : model->layers()) {
    const TokenMixer& mixer = *layer->mixer();
    const FeedForward& feed_forward = *layer->feed_forward();
    idle += parameter_count(feed_forward) - feed_forward.activated_parameters();
    sum.state_bytes += layer->state_bytes(tokens);
    sum.cache_bytes_per_token += mixer.cache_bytes_per_token();
    sum.prefill_flops += layer->flops(tokens);
    sum.decode_flops += layer->decode_flops(tokens);
  }
  sum.prefill_flops += 2 * static_cast<double>(head) * static_cast<double>(tokens);
  sum.decode_flops += 2 * static_cast<double>(head);
  const double residual = model->output_residual_flops();
  sum.prefill_flops += residual * static_cast<double>(tokens);
  sum.decode_flops += residual;
  sum.parameters_without_embeddings = sum.parameters - embeddings;
  sum.activated_parameters = sum.parameters - idle;
  sum.activated_parameters_without_embeddings = sum.parameters_without_embeddings - idle;
  return sum;
}

}  // namespace klab
