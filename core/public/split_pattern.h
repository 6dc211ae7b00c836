// SPDX-License-Identifier: Apache-2.0
// The regular expressions by which tokenizers split texts.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace klab {

/// White_Space of Unicode as the members of a PCRE2 character class: PCRE2's own \s has U+180E in addition.
extern const char* const kBlankCharacters;

/// A compiled regular expression in the syntax of PCRE2. Not thread-safe.
class SplitPattern {
 public:
  /// Throws Error with `origin` if the pattern does not compile.
  SplitPattern(const std::string& pattern, const std::string& origin);
  ~SplitPattern();
  SplitPattern(SplitPattern&&) noexcept;
  SplitPattern& operator=(SplitPattern&&) noexcept;

  /// Calls `piece` with every match in a well-formed UTF-8 text and with what lies between matches, in order. Throws
  /// Error for an empty match.
  void split(std::string_view text, const std::function<void(std::string_view)>& piece) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

/// A pattern of a tokenizer.json, in the syntax of Oniguruma, in that of PCRE2. Known are literals, groups,
/// alternatives, lookaround, quantifiers, character classes, \p and \P with categories and scripts, and \s, \S, \d, \r,
/// \n and \t, which mean the same afterwards. Throws Error with `origin` for all else.
std::string pcre2_pattern(std::string_view pattern, const std::string& origin);

}  // namespace klab
