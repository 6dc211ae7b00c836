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

/// A token drawn from logits.
struct DrawnToken {
  int64_t id;
  double log_prob;  ///< at the temperature, among all tokens; 0 without a temperature
};

/// Draws tokens from logits. Ties are ordered by token id, so that a seed gives the same tokens on every machine.
class Sampler {
 public:
  /// Each sequence has its own random stream, for example its index in the batch.
  Sampler(const Sampling& sampling, uint64_t stream);

  /// logits [vocabulary], float32. Throws Error for logits that are not finite.
  int64_t draw(const torch::Tensor& logits);
  DrawnToken draw(const float* logits, int64_t vocabulary);

 private:
  int64_t draw_from_likeliest(const float* logits, int64_t vocabulary, double largest);

  Sampling sampling_;
  Random random_;
};

/// Processes tokens [B, T] from `state`, at most `chunk` tokens of each sequence at a time, so that activation memory
/// does not grow with T. Returns the logits [B, vocabulary] float32 after the last token. Throws Interrupted between
/// chunks.
torch::Tensor prefill(Decoder& model, State& state, const torch::Tensor& tokens, int64_t chunk);

struct GenerationOptions {
  int64_t max_new_tokens = 128;
  int64_t samples = 1;  ///< answers to each prompt, which is read once
  /// The random stream of each answer; empty: 0, 1, ..
  std::vector<uint64_t> streams;
  std::vector<int64_t> stop;  ///< stop tokens: one of them ends its sequence and is part of the answer
  int64_t chunk = 2048;
  Sampling sampling;
  /// Called for every drawn token; answer p * samples + i is answer i to prompt p.
  std::function<void(int64_t answer, int64_t token)> on_token;
};

struct Generated {
  std::vector<std::vector<int64_t>> tokens;   ///< of each answer; the answers to a prompt follow each other
  std::vector<std::vector<float>> log_probs;  ///< of these tokens, see DrawnToken
  State state;                                ///< of the sequences, in this order; see generate()
  double prefill_seconds = 0, decode_seconds = 0;
  int64_t prompt_tokens = 0, decoded_tokens = 0;  ///< decoded: without the first token of each answer, from prefill
};

/// Generates answers to prompts (each of at least one token). Prompts are prefilled from an empty state or from `past`
/// (a state of as many sequences), short ones packed; then all answers are decoded as one batch, which sequences leave
/// when they end. The returned state has processed all tokens but the last of each answer; with several answers it
/// excludes those that have ended. An interrupt ends all answers early. Throws UsageError for a token outside the
/// vocabulary.
Generated generate(Decoder& model, const std::vector<std::vector<int64_t>>& prompts, const GenerationOptions& options,
                   const State* past = nullptr);

}  // namespace klab
