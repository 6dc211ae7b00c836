// SPDX-License-Identifier: Apache-2.0
// The tokenizer of the public Kimi models: byte-pair encoding by rank, like the Python package tiktoken.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace klab {

/// Text to token ids and back.
///
/// Text is split by the published pattern (runs of Han, words with one leading mark, numbers of up to three digits,
/// punctuation, line ends, whitespace), and the bytes of each piece are merged pair by pair, lowest rank first and
/// leftmost on ties, in O(n log n) for n bytes. Before that, like in the published tokenizer, runs of more than 25,000
/// whitespace or non-whitespace characters are split, and special tokens are found. Not thread-safe.
class Tokenizer {
 public:
  /// Reads `tiktoken.model` (a line per token: its bytes in base64, a space, its rank) and, if present, the names of
  /// special tokens from `tokenizer_config.json` in the same folder; special tokens without a name are
  /// <|reserved_token_ID|>. Throws Error with file and line.
  static Tokenizer load(const std::string& folder);

  /// `ranks` maps the bytes of every token to its id; every single byte must be a token. Throws Error.
  Tokenizer(std::map<std::string, int64_t> ranks, std::map<std::string, int64_t> special);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// The ids of a UTF-8 text; each maximal ill-formed part is replaced by U+FFFD. With `special`, names of special
  /// tokens in the text are encoded as those tokens, otherwise as text.
  std::vector<int64_t> encode(std::string_view text, bool special = true) const;

  /// The bytes of these tokens; they may end with an incomplete character. Throws UsageError for an unknown id.
  std::string decode(const std::vector<int64_t>& ids) const;

  /// The id of a special token. Throws Error with its name if it does not exist.
  int64_t special(const std::string& name) const;

  /// One more than the largest id.
  int64_t size() const;

 private:
  struct Content;
  std::unique_ptr<Content> content_;
};

/// Replaces each maximal ill-formed part of `text` by U+FFFD, like Python's decode(errors="replace").
std::string repaired_utf8(std::string_view text);

}  // namespace klab
