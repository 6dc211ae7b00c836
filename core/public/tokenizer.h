// The tokenizer of the public Kimi models: byte pairs by rank, as the Python package tiktoken has them.
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
/// Text is cut by the published pattern (runs of Han, words with one leading mark, numbers of up to three digits,
/// punctuation, line ends, blanks), and the bytes of each piece are merged pair by pair, the lowest rank first and the
/// leftmost of equals; a piece of n bytes takes O(n log n). Before all that, as the published tokenizer does, runs of
/// more than 25,000 blanks or non-blanks are cut, and special tokens are found. For one thread at a time.
class Tokenizer {
 public:
  /// Reads `tiktoken.model` (a line for each token: its bytes in base64, a blank, its rank) and, if it is there, the
  /// names of special tokens in `tokenizer_config.json` beside it; special tokens without a name are
  /// <|reserved_token_ID|>. Throws Error that names file and line.
  static Tokenizer load(const std::string& folder);

  /// `ranks` maps the bytes of every token to its id; every single byte must be there. Throws Error.
  Tokenizer(std::map<std::string, int64_t> ranks, std::map<std::string, int64_t> special);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// The ids of a text in UTF-8; what is not UTF-8 counts as U+FFFD, one for each maximal wrong part. With `special`,
  /// names of special tokens in the text stand for those tokens, else for their letters.
  std::vector<int64_t> encode(std::string_view text, bool special = true) const;

  /// The bytes of these tokens, which end in the midst of a character where the ids do. Throws UsageError for an id
  /// that there is not.
  std::string decode(const std::vector<int64_t>& ids) const;

  /// The id of a special token. Throws Error that names it when there is none.
  int64_t special(const std::string& name) const;

  /// One more than the largest id.
  int64_t size() const;

 private:
  struct Content;
  std::unique_ptr<Content> content_;
};

/// `text` with U+FFFD for each maximal part that is not UTF-8, as Python's decode(errors="replace") has it.
std::string repaired_utf8(std::string_view text);

}  // namespace klab
