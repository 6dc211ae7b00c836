// SPDX-License-Identifier: Apache-2.0
// The cost of a model: parameters, memory per sequence, FLOPs.
#pragma once

#include <cstdint>

#include "core/model/decoder.h"

namespace klab {

struct Accounting {
  int64_t parameters;
  int64_t parameters_without_embeddings;  ///< excluding the embedding and the head
  int64_t activated_parameters;           ///< used per token: its routed experts and everything else
  int64_t activated_parameters_without_embeddings;
  int64_t state_bytes;            ///< of one sequence after `tokens` tokens, including caches
  int64_t cache_bytes_per_token;  ///< growth per token
  double prefill_flops;           ///< forward pass over one sequence of `tokens` tokens, head at every token
  double decode_flops;            ///< one more token after `tokens`
};

/// Reads shapes only: the model may be on the meta device (ParameterPlace), which allocates no parameters.
Accounting account(const Decoder& model, int64_t tokens);

}  // namespace klab
