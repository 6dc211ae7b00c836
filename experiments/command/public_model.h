// SPDX-License-Identifier: Apache-2.0
// Shared by the commands on public checkpoints: loading, the end of answers, streamed text.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/model/generation.h"
#include "core/public/checkpoint.h"
#include "core/public/tokenizer.h"
#include "experiments/command/command.h"

namespace klab {

struct PublicModelOptions {
  std::string model;
  std::string dtype = "auto";
  bool mmap = false;
  int64_t chunk = 2048;
};

void add_public_model_options(CommandOptions& app, PublicModelOptions& options);

/// Sampling of answers, and their end.
struct AnswerOptions {
  Sampling sampling;
  int64_t max_new_tokens = 256;
  std::vector<int64_t> stop;
  bool ignore_eos = false;
};

void add_answer_options(CommandOptions& app, AnswerOptions& options);

/// Includes the model's own stop tokens, unless ignore_eos; and in a conversation the token that ends a message in the
/// chat template, then `chat` is the tokenizer.
GenerationOptions generation_options(const AnswerOptions& answer, const PublicModelOptions& model,
                                     const PublicTokens& tokens, const Globals& globals,
                                     const Tokenizer* chat = nullptr);

/// Whether the token ends an answer.
bool stops(const GenerationOptions& options, int64_t token);

/// Loads the public checkpoint or the run's model, with progress and a summary on standard error.
PublicModel open_public_model(const PublicModelOptions& options, const Globals& globals);

/// The tokenizer in the model's folder, or of the run, if there is one.
std::optional<Tokenizer> open_tokenizer(const std::string& folder);

/// Converts streamed tokens to text in whole characters: incomplete UTF-8 sequences are held back. Ids beyond the
/// tokenizer, which a padded vocabulary has, are no text.
class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

  /// The text that this token completes, possibly none.
  std::string push(int64_t token);

  /// The bytes held back, with U+FFFD for invalid ones.
  std::string rest();

 private:
  const Tokenizer* tokenizer_;
  std::string held_;
};

/// An answer as text, without the token that ended it.
std::string answer_text(const std::vector<int64_t>& answer, const GenerationOptions& options,
                        const Tokenizer& tokenizer);

/// Prints generated text. On a terminal control characters are made visible.
void print_text(const std::string& text);

/// "prefill: 37 tokens in 0.12 s (308 tokens/s); decode: 24 tokens at 71.2 tokens/s".
std::string speed_line(const Generated& generated);

/// Decoded tokens per second over all sequences; 0 if none were decoded.
double decode_speed(const Generated& generated);

}  // namespace klab
