// SPDX-License-Identifier: Apache-2.0
// Token ids and prompts on the command line, in files and from standard input.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/command/command.h"

namespace klab {

/// Parses "5,17,3" or "5,17,3;8,9"; a line end separates prompts like a semicolon. Throws UsageError with the origin.
std::vector<std::vector<int64_t>> parse_tokens(const std::string& text, const std::string& origin = "--tokens");

/// The options --tokens and --tokens-file.
struct TokenInput {
  std::string text, file;

  bool empty() const { return text.empty() && file.empty(); }
  /// The option that was given, for messages.
  std::string name() const { return file.empty() ? "--tokens" : "--tokens-file"; }
};

void add_token_options(CommandOptions& app, TokenInput& input);

/// The ids of each prompt. A file has the form of parse_tokens(), or is a safetensors file with `tokens` [B, T] int64;
/// "-" is standard input. Throws UsageError unless one of the options was given.
std::vector<std::vector<int64_t>> read_tokens(const TokenInput& input);

/// The options --prompt and --prompt-file.
struct PromptInput {
  std::vector<std::string> texts, files;

  bool empty() const { return texts.empty() && files.empty(); }
};

void add_prompt_options(CommandOptions& app, PromptInput& input);

/// The prompts, those of files last and without the line end at the end of the file; "-" is standard input.
std::vector<std::string> read_prompts(const PromptInput& input);

}  // namespace klab
