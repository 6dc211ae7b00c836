// SPDX-License-Identifier: Apache-2.0
#include "core/public/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

#include "core/base/error.h"

namespace klab {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Rewrites a pattern from left to right.
class Translation {
 public:
  Translation(std::string_view pattern, const std::string& origin) : pattern_(pattern), origin_(origin) {}

  std::string result() {
    while (at_ < pattern_.size()) in_class_ ? class_member() : element();
    if (in_class_) unknown("a character class without end");
    return out_;
  }

 private:
  [[noreturn]] void unknown(const std::string& what) const {
    fail("{}: the pattern has {} at position {}, which klab does not know: {}", origin_, what, at_, pattern_);
  }

  bool follows(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }

  void copy(size_t count) {
    out_ += pattern_.substr(at_, count);
    at_ += count;
  }

  void element() {
    switch (pattern_[at_]) {
      case '\\': return escape();
      case '[': return class_start();
      case '(': return group();
      case '{': return counted();
      case '.':
      case '^':
      case '$': unknown(std::string("'") + pattern_[at_] + "'");
      default: copy(1);
    }
  }

  void class_start() {
    copy(follows("[^") ? 2 : 1);
    if (follows("]")) unknown("']' at the start of a character class");
    in_class_ = true;
  }

  void class_member() {
    if (follows("\\")) return escape();
    if (follows("[")) unknown("a character class in a character class");
    if (follows("&&")) unknown("an intersection of character classes");
    if (follows("]")) in_class_ = false;
    copy(1);
  }

  void group() {
    static constexpr std::array<std::string_view, 8> kKnown = {"(?:", "(?i:", "(?!", "(?=", "(?<!", "(?<=", "(?>", ""};
    const auto known = std::find_if(kKnown.begin(), kKnown.end(), [&](std::string_view text) { return follows(text); });
    if (known->empty() && follows("(?")) unknown("a group of another kind");
    copy(std::max<size_t>(known->size(), 1));
  }

  // {n}, {n,} or {n,m}. A following + makes it possessive in PCRE2, but not in Oniguruma.
  void counted() {
    const size_t end = pattern_.find('}', at_);
    const std::string_view inside = pattern_.substr(at_ + 1, end == std::string_view::npos ? 0 : end - at_ - 1);
    const bool numbers = std::all_of(inside.begin(), inside.end(), [](char c) { return is_digit(c) || c == ','; });
    const bool possessive = end != std::string_view::npos && pattern_.substr(end + 1).starts_with("+");
    if (inside.empty() || !is_digit(inside.front()) || !numbers || possessive) unknown("such a '{'");
    copy(end + 1 - at_);
  }

  void escape() {
    if (at_ + 1 == pattern_.size()) unknown("a '\\' at the end");
    const char kind = pattern_[at_ + 1];
    if (kind == 'p' || kind == 'P') return property();
    if (kind == 's' || (kind == 'S' && !in_class_)) return blank(kind == 'S');
    const bool known = kind == 'r' || kind == 'n' || kind == 't' || kind == 'd';
    if (!known && (is_letter(kind) || is_digit(kind) || static_cast<unsigned char>(kind) >= 0x80)) {
      unknown(std::string("'\\") + kind + "'");
    }
    copy(2);
  }

  void blank(bool negated) {
    out_ += in_class_ ? kBlankCharacters : std::string(negated ? "[^" : "[") + kBlankCharacters + "]";
    at_ += 2;
  }

  // Names of up to two letters are categories, others scripts; without "sc:" PCRE2 would take extensions of scripts.
  void property() {
    const size_t end = pattern_.find('}', at_);
    if (end == std::string_view::npos || pattern_.substr(at_ + 2, 1) != "{") unknown("such a '\\p'");
    std::string_view name = pattern_.substr(at_ + 3, end - at_ - 3);
    out_ += pattern_.substr(at_, 3);
    if (name.starts_with("^")) {
      out_ += "^";
      name.remove_prefix(1);
    }
    if (name.empty() || !std::all_of(name.begin(), name.end(), is_letter)) unknown("such a '\\p'");
    out_ += (name.size() > 2 ? "sc:" : "") + std::string(name) + "}";
    at_ = end + 1;
  }

  std::string_view pattern_;
  const std::string& origin_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

const char* const kBlankCharacters =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

std::string pcre2_pattern(std::string_view pattern, const std::string& origin) {
  return Translation(pattern, origin).result();
}

struct SplitPattern::Compiled {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
  pcre2_match_data* match = nullptr;
  std::string origin;

  Compiled() = default;
  ~Compiled() {
    pcre2_match_data_free(match);
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;
};

SplitPattern::SplitPattern(const std::string& pattern, const std::string& origin)
    : compiled_(std::make_unique<Compiled>()) {
  Compiled& c = *compiled_;
  int error = 0;
  PCRE2_SIZE where = 0;
  c.origin = origin;
  c.code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                         PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &error, &where, nullptr);
  if (c.code == nullptr) {
    fail("{}: the pattern does not compile: PCRE2 error {} at position {} of {}", origin, error, where, pattern);
  }
  c.context = pcre2_match_context_create(nullptr);
  c.match = pcre2_match_data_create(1, nullptr);
  // Without JIT support for this processor matching is interpreted: slower, with equal results.
  if (pcre2_jit_compile(c.code, PCRE2_JIT_COMPLETE) == 0) {
    c.stack = pcre2_jit_stack_create(32 << 10, 64 << 20, nullptr);
    pcre2_jit_stack_assign(c.context, nullptr, c.stack);
  }
}

SplitPattern::~SplitPattern() = default;
SplitPattern::SplitPattern(SplitPattern&&) noexcept = default;
SplitPattern& SplitPattern::operator=(SplitPattern&&) noexcept = default;

void SplitPattern::split(std::string_view text, const std::function<void(std::string_view)>& piece) const {
  const Compiled& c = *compiled_;
  for (size_t at = 0; at < text.size();) {
    const int found = pcre2_match(c.code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                  PCRE2_NO_UTF_CHECK, c.match, c.context);
    if (found == PCRE2_ERROR_NOMATCH) return piece(text.substr(at));
    if (found < 0) fail("{}: the pattern failed on a text: PCRE2 error {}", c.origin, found);
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(c.match);
    const size_t begin = range[0], end = range[1];
    if (begin == end) fail("{}: the pattern matches an empty text", c.origin);
    if (begin > at) piece(text.substr(at, begin - at));
    piece(text.substr(begin, end - begin));
    at = end;
  }
}

}  // namespace klab
