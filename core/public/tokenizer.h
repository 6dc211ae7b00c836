// SPDX-License-Identifier: Apache-2.0
// Tokenizers of public models: byte-pair encoding by rank, like the Python packages tiktoken and tokenizers.
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
/// In texts added tokens are found first, what lies between them is split into pieces, and the bytes of each piece are
/// merged pair by pair, lowest rank first and leftmost on ties, in O(n log n) for n bytes. The form of the files:
///
/// - `tiktoken.model`, of the Kimi models. Pieces follow the published pattern (runs of Han, words with one leading
///   mark, numbers of up to three digits, punctuation, line ends, whitespace). Before that, like in the published
///   tokenizer, runs of more than 25,000 whitespace or non-whitespace characters are split.
/// - `tokenizer.json`, of the Qwen models and others with byte-level BPE: normalization, patterns and merges are those
///   of the file, and ids are those of the package tokenizers without add_special_tokens.
///
/// Not thread-safe.
class Tokenizer {
 public:
  /// Reads `tiktoken.model` (a line per token: its bytes in base64, a space, its rank) and, if present, the names of
  /// special tokens from `tokenizer_config.json` in the same folder; special tokens without a name are
  /// <|reserved_token_ID|>. Reads `tokenizer.json` if there is no `tiktoken.model`. Throws Error with the file and its
  /// line or field.
  static Tokenizer load(const std::string& folder);

  /// Whether the folder has one of these files.
  static bool is_in(const std::string& folder);

  /// `ranks` maps the bytes of every token to its id; every single byte must be a token. Throws Error.
  Tokenizer(std::map<std::string, int64_t> ranks, const std::map<std::string, int64_t>& special);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// The ids of a UTF-8 text; each maximal ill-formed part is replaced by U+FFFD. With `special`, names of special
  /// tokens in the text are encoded as those tokens, otherwise as text. Names of added tokens of tokenizer.json that
  /// are not special, such as <think>, are always encoded as those tokens.
  std::vector<int64_t> encode(std::string_view text, bool special = true) const;

  /// The ids of a text in which no name stands for an added token, special or not: every character is text.
  std::vector<int64_t> encode_plain(std::string_view text) const;

  /// The bytes of these tokens; they may end with an incomplete character. Throws UsageError for an unknown id.
  std::string decode(const std::vector<int64_t>& ids) const;

  /// Whether there is a token of this id. Vocabularies of models may be padded beyond their tokenizer.
  bool has(int64_t id) const;

  /// The id of a special token. Throws Error with its name if it does not exist.
  int64_t special(const std::string& name) const;

  bool has_special(const std::string& name) const;

  /// One more than the largest id.
  int64_t size() const;

  /// Throws UsageError if tokenizer.json has ids beyond those of a model. The tiktoken form has reserved tokens that
  /// published models lack.
  void require_vocabulary(int64_t vocabulary) const;

 private:
  struct Content;
  enum class Names;
  explicit Tokenizer(std::unique_ptr<Content> content);
  static Tokenizer load_tiktoken(const std::string& folder);
  static Tokenizer load_json(const std::string& path);
  std::vector<int64_t> encode_with(std::string_view text, Names names) const;

  std::unique_ptr<Content> content_;
};

/// Replaces each maximal ill-formed part of `text` by U+FFFD, like Python's decode(errors="replace").
std::string repaired_utf8(std::string_view text);

}  // namespace klab
