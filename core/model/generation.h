// From prompts to answers: prefill in chunks, sampling, decoding of a batch.
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
  int64_t top_k = 0;       ///< of this many most probable tokens only; 0: of all
  double top_p = 1;        ///< and of the fewest most probable ones that make up this much
  uint64_t seed = 0;

  /// Throws UsageError that names the flag.
  void validate() const;
};

/// Draws from logits. Equal logits go by their ids, so that the same seed draws the same tokens everywhere.
class Sampler {
 public:
  /// Of sequence number `sequence` of a batch: each has a stream of its own.
  Sampler(const Sampling& sampling, int64_t sequence);

  /// logits [vocabulary], float32.
  int64_t draw(const torch::Tensor& logits);

 private:
  Sampling sampling_;
  Random random_;
};

/// Continues `state` by tokens [B, T], at most `chunk` of each sequence at a time, so that memory does not grow with T.
/// Gives the logits [B, vocabulary] float32 behind the last token. Throws Interrupted between two chunks.
torch::Tensor prefill(Decoder& model, State& state, const torch::Tensor& tokens, int64_t chunk);

struct GenerationOptions {
  int64_t max_new_tokens = 128;
  std::vector<int64_t> stop;  ///< a sequence that draws one of them ends, and the token is the last of its answer
  int64_t chunk = 2048;
  Sampling sampling;
  /// Called with every token of every sequence when it is drawn.
  std::function<void(int64_t sequence, int64_t token)> on_token;
};

struct Generated {
  std::vector<std::vector<int64_t>> tokens;  ///< the new ones, for each prompt
  State state;                               ///< of the sequences, in their order; see below
  double prefill_seconds = 0, decode_seconds = 0;
  int64_t prompt_tokens = 0, decoded_tokens = 0;  ///< decoded: without the first of each answer, which prefill gives
};

/// Answers prompts (each of at least one token), all together: each is read on its own, from nothing or from
/// `past` (the state of as many sequences), then they are decoded as a batch which those that end leave. The state
/// that comes back has seen all tokens but the last of each answer; with several prompts, those that have ended are
/// not in it. An interrupt ends the answers where they are. Throws UsageError for a token that is not in the
/// vocabulary.
Generated generate(Decoder& model, const std::vector<std::vector<int64_t>>& prompts, const GenerationOptions& options,
                   const State* past = nullptr);

}  // namespace klab
