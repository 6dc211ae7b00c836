// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/token_input.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/io/safetensors.h"
#include "experiments/command/standard_input.h"

namespace klab {
namespace {

using Rows = std::vector<std::vector<int64_t>>;

constexpr const char* kTokenForm = "write 5,17,3 or, for several prompts, 5,17,3;8,9";

// A word of a text for messages: files may hold anything.
std::string short_word(const std::string& word) {
  constexpr size_t kShown = 60;
  return word.size() > kShown ? fmt::format("{}...", word.substr(0, kShown)) : word;
}

int64_t parse_id(const std::string& word, const std::string& origin) {
  int64_t id = 0;
  const auto [end, status] = std::from_chars(word.data(), word.data() + word.size(), id);
  if (status != std::errc{} || end != word.data() + word.size()) {
    refuse("{}: '{}' is not a token id; {}", origin, short_word(word), kTokenForm);
  }
  return id;
}

// The header of a safetensors file is a JSON object after its length of 8 bytes; no list of ids has a brace.
bool is_safetensors(const std::string& content) { return content.size() > 8 && content[8] == '{'; }

Rows rows_of_safetensors(const std::string& path) {
  const SafetensorsFile file(path);
  const torch::Tensor tokens = file.tensor("tokens");
  if (tokens.scalar_type() != torch::kLong || tokens.dim() != 2 || tokens.numel() == 0) {
    refuse("{}: 'tokens' must be [B, T] of dtype I64 with at least one token", path);
  }
  Rows rows;
  for (int64_t b = 0; b < tokens.size(0); ++b) {
    const torch::Tensor row = tokens[b].contiguous();
    rows.emplace_back(row.const_data_ptr<int64_t>(), row.const_data_ptr<int64_t>() + row.numel());
  }
  return rows;
}

}  // namespace

Rows parse_tokens(const std::string& text, const std::string& origin) {
  std::string prompts(trimmed(text));
  std::replace(prompts.begin(), prompts.end(), '\n', ';');
  Rows rows;
  for (const std::string& row : split(prompts, ';')) {
    std::vector<int64_t>& ids = rows.emplace_back();
    for (const std::string& word : split(row, ',')) ids.push_back(parse_id(word, origin));
    if (ids.empty()) refuse("{}: prompt {} has no token; {}", origin, rows.size(), kTokenForm);
  }
  if (rows.empty()) refuse("{}: there is no token; {}", origin, kTokenForm);
  return rows;
}

void add_token_options(CommandOptions& app, TokenInput& input) {
  app.add_option("--tokens", input.text, "token ids: 5,17,3 or, for several prompts, 5,17,3;8,9");
  app.add_option("--tokens-file", input.file,
                 "file with token ids in that form, a prompt per line, or safetensors file with 'tokens' [B, T] int64; "
                 "-: standard input");
}

Rows read_tokens(const TokenInput& input) {
  if (input.text.empty() == input.file.empty()) refuse("give either --tokens or --tokens-file");
  if (input.file.empty()) return parse_tokens(input.text);
  const std::string content = read_input(input.file), name = input_name(input.file);
  if (!is_safetensors(content)) return parse_tokens(content, name);
  if (input.file == "-") refuse("{}: token ids are read as text; give a safetensors file by its name", name);
  return rows_of_safetensors(input.file);
}

void add_prompt_options(CommandOptions& app, PromptInput& input) {
  app.add_option("--prompt", input.texts,
                 "prompt; may be repeated for a batch. Names of special tokens in it, such as <|im_end|>, are those "
                 "tokens, but with --chat text")
      .one_each();
  app.add_option("--prompt-file", input.files,
                 "file with a prompt; may be repeated for a batch. -: standard input. The line end at its end is not "
                 "part of the prompt")
      .one_each();
}

std::vector<std::string> read_prompts(const PromptInput& input) {
  if (std::count(input.files.begin(), input.files.end(), "-") > 1) {
    refuse("--prompt-file -: standard input can be only one of the prompts");
  }
  std::vector<std::string> all = input.texts;
  for (const std::string& file : input.files) {
    std::string text = read_input(file);
    if (text.ends_with('\n')) text.pop_back();
    if (text.ends_with('\r')) text.pop_back();
    all.push_back(std::move(text));
  }
  return all;
}

}  // namespace klab
