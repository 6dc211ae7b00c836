// SPDX-License-Identifier: Apache-2.0
// Text generation: chunked prefill, sampling, batched decode.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "core/base/random.h"
#include "core/model/decoder.h"

namespace klab {

/// How the next token is drawn.
struct Sampling {
  double temperature = 0;  ///< 0: the most probable token
  int64_t top_k = 0;       ///< sample from this many most probable tokens; 0: all
  double top_p = 1;        ///< and from the smallest set of most probable tokens with this probability (nucleus)
  uint64_t seed = 0;

  /// Throws UsageError with the flag.
  void validate() const;
};

/// Draws tokens from logits. Ties are ordered by token id, so that a seed gives the same tokens on every machine.
class Sampler {
 public:
  /// `sequence` is the index in the batch: each sequence has its own random stream.
  Sampler(const Sampling& sampling, int64_t sequence);

  /// logits [vocabulary], float32.
  int64_t draw(const torch::Tensor& logits);

 private:
  Sampling sampling_;
  Random random_;
};

/// Processes tokens [B, T] from `state`, at most `chunk` tokens of each sequence at a time, so that activation memory
/// does not grow with T. Returns the logits [B, vocabulary] float32 after the last token. Throws Interrupted between
/// chunks.
torch::Tensor prefill(Decoder& model, State& state, const torch::Tensor& tokens, int64_t chunk);

struct GenerationOptions {
  int64_t max_new_tokens = 128;
  std::vector<int64_t> stop;  ///< stop tokens: one of them ends its sequence and is part of the answer
  int64_t chunk = 2048;
  Sampling sampling;
  /// Called for every drawn token.
  std::function<void(int64_t sequence, int64_t token)> on_token;
};

struct Generated {
  std::vector<std::vector<int64_t>> tokens;  ///< generated tokens of each prompt
  State state;                               ///< of the sequences, in prompt order; see generate()
  double prefill_seconds = 0, decode_seconds = 0;
  int64_t prompt_tokens = 0, decoded_tokens = 0;  ///< decoded: without the first token of each answer, from prefill
};

/// Generates answers to prompts (each of at least one token). Prompts are prefilled one by one, from an empty state or
/// from `past` (a state of as many sequences), then decoded as one batch, which sequences leave when they end. The
/// returned state has processed all tokens but the last of each answer; with several prompts it excludes those that
/// have ended. An interrupt ends all answers early. Throws UsageError for a token outside the vocabulary.
Generated generate(Decoder& model, const std::vector<std::vector<int64_t>>& prompts, const GenerationOptions& options,
                   const State* past = nullptr);

}  // namespace klab
