// What a model costs: parameters, memory per sequence, floating-point operations.
#pragma once

#include <cstdint>

#include "core/model/decoder.h"

namespace klab {

struct Accounting {
  int64_t parameters;
  int64_t parameters_without_embeddings;  ///< without the embedding and the head
  int64_t activated_parameters;           ///< of one token: the experts that it goes to, and all else
  int64_t activated_parameters_without_embeddings;
  int64_t state_bytes;            ///< of one sequence after `tokens` tokens, caches included
  int64_t cache_bytes_per_token;  ///< what each token adds
  double prefill_flops;           ///< forward pass over `tokens` tokens of one sequence, head at every token
  double decode_flops;            ///< one more token after `tokens`
};

/// Needs no memory for parameters: the model may be on the meta device (ParameterPlace).
Accounting account(const Decoder& model, int64_t tokens);

}  // namespace klab
