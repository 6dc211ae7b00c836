// SPDX-License-Identifier: Apache-2.0
// Shared by the commands on public checkpoints: loading, token ids on the command line, streamed text.
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

/// Includes the model's own stop tokens, unless ignore_eos.
GenerationOptions generation_options(const AnswerOptions& answer, const PublicModelOptions& model,
                                     const PublicTokens& tokens, const Globals& globals);

/// Loads the public checkpoint or the run's model, with progress and a summary on standard error.
PublicModel open_public_model(const PublicModelOptions& options, const Globals& globals);

/// The tokenizer in the model's folder, or of the run, if there is one.
std::optional<Tokenizer> open_tokenizer(const std::string& folder);

/// Parses "5,17,3" or "5,17,3;8,9". Throws UsageError.
std::vector<std::vector<int64_t>> parse_tokens(const std::string& text);

/// Converts streamed tokens to text in whole characters: incomplete UTF-8 sequences are held back.
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

/// "prefill: 37 tokens in 0.12 s (308 tokens/s); decode: 24 tokens at 71.2 tokens/s".
std::string speed_line(const Generated& generated);

/// Decoded tokens per second over all sequences; 0 if none were decoded.
double decode_speed(const Generated& generated);

}  // namespace klab
