// What the commands on public checkpoints share: opening one, tokens on the command line, text as it comes.
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

/// How tokens are drawn, and when an answer ends.
struct AnswerOptions {
  Sampling sampling;
  int64_t max_new_tokens = 256;
  std::vector<int64_t> stop;
  bool ignore_eos = false;
};

void add_answer_options(CommandOptions& app, AnswerOptions& options);

/// With the model's own stop tokens, unless they are to be ignored.
GenerationOptions generation_options(const AnswerOptions& answer, const PublicModelOptions& model,
                                     const PublicTokens& tokens, const Globals& globals);

/// Loads it, with progress on standard error, and says there what it holds.
KimiModel open_public_model(const PublicModelOptions& options, const Globals& globals);

/// The tokenizer beside the model, if there is one.
std::optional<Tokenizer> open_tokenizer(const std::string& folder);

/// "5,17,3" or "5,17,3;8,9". Throws UsageError.
std::vector<std::vector<int64_t>> parse_tokens(const std::string& text);

/// Bytes of tokens as they come, in whole characters: what may still become one is held back.
class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

  /// The text that this token completes, perhaps none.
  std::string push(int64_t token);

  /// What was held back, as far as it is no text as U+FFFD.
  std::string rest();

 private:
  const Tokenizer* tokenizer_;
  std::string held_;
};

/// "prefill: 37 tokens in 0.12 s (308 tokens/s); decode: 24 tokens at 71.2 tokens/s".
std::string speed_line(const Generated& generated);

/// Tokens decoded per second, over all sequences; 0 when none was.
double decode_speed(const Generated& generated);

}  // namespace klab
