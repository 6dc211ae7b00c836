// SPDX-License-Identifier: Apache-2.0
#include "core/public/tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>
#include <queue>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"

namespace klab {
namespace {

using Ids = std::vector<int64_t>;

constexpr int64_t kReserved = 258;      // number of special tokens after the ranks in the published tokenizer
constexpr size_t kLongestRun = 25'000;  // characters
constexpr size_t kLongestText = 400'000;

// --- UTF-8

// The number of bytes of the well-formed character at `at`; 0 if it is ill-formed, then `wrong` is the length of the
// maximal ill-formed part (Unicode 15, table 3-7).
size_t character_length(std::string_view text, size_t at, size_t& wrong) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  wrong = 1;
  if (first < 0x80) return 1;
  const size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                        : first >= 0xE0 && first <= 0xEF ? 3
                        : first >= 0xF0 && first <= 0xF4 ? 4
                                                         : 0;
  if (length == 0) return 0;
  for (size_t i = 1; i < length; ++i) {
    unsigned char low = 0x80, high = 0xBF;
    if (i == 1 && first == 0xE0) low = 0xA0;
    if (i == 1 && first == 0xED) high = 0x9F;
    if (i == 1 && first == 0xF0) low = 0x90;
    if (i == 1 && first == 0xF4) high = 0x8F;
    if (at + i >= text.size() || byte(at + i) < low || byte(at + i) > high) {
      wrong = i;
      return 0;
    }
  }
  return length;
}

char32_t code_point(std::string_view c) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(c[i])); };
  switch (c.size()) {
    case 1: return byte(0);
    case 2: return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3: return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    default: return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  }
}

// Python's str.isspace().
bool is_space(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// Splits a well-formed text like the published tokenizer: every 400,000 characters, and runs that are too long.
std::vector<std::string_view> slices(std::string_view text) {
  std::vector<std::string_view> all;
  size_t start = 0, run = 0, characters = 0;
  bool run_is_space = false;
  for (size_t at = 0, wrong = 0; at < text.size();) {
    const size_t length = character_length(text, at, wrong);
    const bool space = is_space(code_point(text.substr(at, length)));
    if (characters == kLongestText) {
      all.push_back(text.substr(start, at - start));
      start = at;
      characters = run = 0;
    }
    if (run == 0 || space != run_is_space) {
      run = 1;
      run_is_space = space;
    } else if (++run > kLongestRun) {
      all.push_back(text.substr(start, at - start));
      start = at;
      run = 1;
    }
    ++characters;
    at += length;
  }
  if (start < text.size()) all.push_back(text.substr(start));
  return all;
}

// --- The pattern

// The published pattern uses intersections of character classes ("letters && [^Han]") and Unicode's White_Space for \s.
// PCRE2 supports neither; a lookahead and an explicit list replace them.
std::string pattern() {
  const std::string blank =
      R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
  const std::string upper = R"((?:(?!\p{sc:Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]))";
  const std::string lower = R"((?:(?!\p{sc:Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}]))";
  const std::string mark = R"([^\r\n\p{L}\p{N}]?)", contraction = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)";
  return R"(\p{sc:Han}+)"
         "|" +
         mark + upper + "*" + lower + "+" + contraction + "|" + mark + upper + "+" + lower + "*" + contraction +
         R"(|\p{N}{1,3}| ?[^)" + blank +
         R"(\p{L}\p{N}]+[\r\n]*)"
         "|[" +
         blank +
         R"(]*[\r\n]+)"
         "|[" +
         blank + "]+(?![^" + blank + "])|[" + blank + "]+";
}

struct Pattern {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;

  Pattern() {
    const std::string text = pattern();
    int error = 0;
    PCRE2_SIZE where = 0;
    code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                         PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &error, &where, nullptr);
    if (code == nullptr) fail("the tokenizer's pattern does not compile: error {} at {}", error, where);
    context = pcre2_match_context_create(nullptr);
    // Without JIT support for this processor matching is interpreted: slower, with equal results.
    if (pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0) {
      stack = pcre2_jit_stack_create(32 << 10, 64 << 20, nullptr);
      pcre2_jit_stack_assign(context, nullptr, stack);
    }
  }
  ~Pattern() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  template <class Piece>
  void split(std::string_view text, const Piece& piece) const {
    pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
    const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> owner(match, &pcre2_match_data_free);
    for (size_t at = 0; at < text.size();) {
      const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                    PCRE2_NO_UTF_CHECK, match, context);
      if (found == PCRE2_ERROR_NOMATCH) return;  // text not covered by the pattern is skipped
      if (found < 0) fail("the tokenizer's pattern failed on a text: PCRE2 error {}", found);
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match);
      piece(text.substr(range[0], range[1] - range[0]));
      at = range[1];
    }
  }
};

// --- Byte-pair encoding

using Ranks = std::unordered_map<std::string_view, int64_t>;

constexpr int64_t kNoRank = std::numeric_limits<int64_t>::max();

int64_t rank_of(const Ranks& ranks, std::string_view bytes) {
  const auto found = ranks.find(bytes);
  return found == ranks.end() ? kNoRank : found->second;
}

// Byte-pair merges of one piece: a linked list of parts and a heap of pairs by rank, in which stale entries are
// skipped.
void merge(const Ranks& ranks, std::string_view piece, Ids& out) {
  const int64_t whole = rank_of(ranks, piece);
  if (whole != kNoRank) return out.push_back(whole);
  const auto n = static_cast<int64_t>(piece.size());
  std::vector<int64_t> next(piece.size() + 1), before(piece.size() + 1);  // neighbours of the part that begins there
  const auto bytes = [&](int64_t begin, int64_t end) {
    return piece.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  };
  struct Pair {
    int64_t rank, begin, middle, end;
    bool operator>(const Pair& other) const { return std::pair(rank, begin) > std::pair(other.rank, other.begin); }
  };
  std::priority_queue<Pair, std::vector<Pair>, std::greater<>> pairs;
  const auto offer = [&](int64_t begin) {
    const int64_t middle = next[static_cast<size_t>(begin)];
    if (middle >= n) return;
    const int64_t end = next[static_cast<size_t>(middle)], rank = rank_of(ranks, bytes(begin, end));
    if (rank != kNoRank) pairs.push({rank, begin, middle, end});
  };
  for (int64_t i = 0; i <= n; ++i) {
    next[static_cast<size_t>(i)] = i + 1;
    before[static_cast<size_t>(i)] = i - 1;
  }
  for (int64_t i = 0; i + 1 < n; ++i) offer(i);
  constexpr int64_t kMerged = -2;  // no part begins here anymore
  while (!pairs.empty()) {
    const Pair pair = pairs.top();
    pairs.pop();
    const bool stale = before[static_cast<size_t>(pair.begin)] == kMerged ||
                       next[static_cast<size_t>(pair.begin)] != pair.middle ||
                       next[static_cast<size_t>(pair.middle)] != pair.end;
    if (stale) continue;
    next[static_cast<size_t>(pair.begin)] = pair.end;
    before[static_cast<size_t>(pair.middle)] = kMerged;
    if (pair.end <= n) before[static_cast<size_t>(pair.end)] = pair.begin;
    if (before[static_cast<size_t>(pair.begin)] >= 0) offer(before[static_cast<size_t>(pair.begin)]);
    offer(pair.begin);
  }
  for (int64_t begin = 0; begin < n; begin = next[static_cast<size_t>(begin)]) {
    out.push_back(rank_of(ranks, bytes(begin, next[static_cast<size_t>(begin)])));
  }
}

// --- Files

// Strict base64 with padding; false for anything else.
bool decode_base64(std::string_view text, std::string& out) {
  static constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  out.clear();
  if (text.empty() || text.size() % 4 != 0) return false;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t value = i < text.size() - padding ? kAlphabet.find(text[i]) : 0;
    if (value == std::string_view::npos) return false;
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (i % 4 == 3) {
      for (const int shift : {16, 8, 0}) out += static_cast<char>(bits >> shift & 0xFF);
      bits = 0;
    }
  }
  for (size_t i = 0; i < padding; ++i) out.pop_back();
  return true;
}

std::map<std::string, int64_t> read_ranks(const std::string& path) {
  const std::string content = read_file(path);
  std::map<std::string, int64_t> ranks;
  size_t line = 1;
  for (size_t at = 0; at < content.size(); ++line) {
    const size_t end = std::min(content.find('\n', at), content.size());
    const std::string_view text = std::string_view(content).substr(at, end - at);
    at = end + 1;
    if (text.empty()) continue;
    const size_t blank = text.find(' ');
    std::string bytes;
    int64_t rank = -1;
    if (blank != std::string_view::npos) std::from_chars(text.data() + blank + 1, text.data() + text.size(), rank);
    if (blank == std::string_view::npos || rank < 0 || !decode_base64(text.substr(0, blank), bytes)) {
      fail("{}, line {}: must be a token's bytes in base64, a space and its rank", path, line);
    }
    if (!ranks.emplace(bytes, rank).second) fail("{}, line {}: duplicate token", path, line);
  }
  return ranks;
}

// Names of special tokens by id, from tokenizer_config.json.
std::map<int64_t, std::string> read_names(const std::string& path) {
  std::map<int64_t, std::string> names;
  if (!std::filesystem::exists(path)) return names;
  const auto json = parse_json(read_file(path), path);
  if (!json.is_object()) fail("{}: must be a JSON object", path);
  const auto added = json.find("added_tokens_decoder");
  if (added == json.end()) return names;
  for (const auto& [id, token] : added->items()) {
    int64_t number = -1;
    std::from_chars(id.data(), id.data() + id.size(), number);
    if (number < 0 || !token.is_object() || !token.contains("content") || !token["content"].is_string()) {
      fail("{}: added_tokens_decoder holds '{}', but must map ids to objects with a text `content`", path, id);
    }
    names[number] = token["content"].get<std::string>();
  }
  return names;
}

}  // namespace

std::string repaired_utf8(std::string_view text) {
  std::string out;
  for (size_t at = 0, wrong = 0; at < text.size();) {
    const size_t length = character_length(text, at, wrong);
    out += length > 0 ? text.substr(at, length) : std::string_view("\xEF\xBF\xBD");
    at += length > 0 ? length : wrong;
  }
  return out;
}

struct Tokenizer::Content {
  std::map<std::string, int64_t> ranks, special;
  Ranks by_bytes;                                      // views of the keys of `ranks`
  std::unordered_map<int64_t, std::string_view> back;  // bytes of all tokens, by id
  Pattern pattern;

  // Text between special tokens is split by the pattern.
  void encode(std::string_view text, bool with_special, Ids& out) const {
    const auto plain = [&](std::string_view part) {
      pattern.split(part, [&](std::string_view piece) { merge(by_bytes, piece, out); });
    };
    size_t start = 0;
    for (size_t at = 0; with_special && at < text.size(); ++at) {
      const auto found = special_at(text.substr(at));
      if (found == special.end()) continue;
      plain(text.substr(start, at - start));
      out.push_back(found->second);
      start = at + found->first.size();
      at = start - 1;
    }
    plain(text.substr(start));
  }

  // The longest special token at the start of the text.
  std::map<std::string, int64_t>::const_iterator special_at(std::string_view text) const {
    auto best = special.end();
    if (first_bytes.find(text.front()) == std::string::npos) return best;
    for (auto it = special.begin(); it != special.end(); ++it) {
      if (text.starts_with(it->first) && (best == special.end() || it->first.size() > best->first.size())) best = it;
    }
    return best;
  }

  std::string first_bytes;  // of special tokens
};

Tokenizer::Tokenizer(std::map<std::string, int64_t> ranks, std::map<std::string, int64_t> special)
    : content_(std::make_unique<Content>()) {
  Content& c = *content_;
  c.ranks = std::move(ranks);
  c.special = std::move(special);
  for (int byte = 0; byte < 256; ++byte) {
    if (c.ranks.count(std::string(1, static_cast<char>(byte))) == 0) {
      fail("the tokenizer lacks a token for the byte {}: not every text could be encoded", byte);
    }
  }
  c.by_bytes.reserve(c.ranks.size());
  for (const auto* group : {&c.ranks, &c.special}) {
    for (const auto& [bytes, id] : *group) {
      if (group == &c.ranks) c.by_bytes.emplace(bytes, id);
      if (!c.back.emplace(id, bytes).second) fail("the tokenizer has two tokens of id {}", id);
    }
  }
  for (const auto& [name, id] : c.special) {
    if (name.empty()) fail("the tokenizer's special token {} has no name", id);
    if (c.first_bytes.find(name.front()) == std::string::npos) c.first_bytes += name.front();
  }
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokenizer Tokenizer::load(const std::string& folder) {
  std::map<std::string, int64_t> ranks = read_ranks(folder + "/tiktoken.model");
  const std::map<int64_t, std::string> names = read_names(folder + "/tokenizer_config.json");
  std::map<std::string, int64_t> special;
  const auto first = static_cast<int64_t>(ranks.size());
  for (int64_t id = first; id < first + kReserved; ++id) {
    const auto named = names.find(id);
    special[named == names.end() ? fmt::format("<|reserved_token_{}|>", id) : named->second] = id;
  }
  return Tokenizer(std::move(ranks), std::move(special));
}

std::vector<int64_t> Tokenizer::encode(std::string_view text, bool with_special) const {
  const std::string sound = repaired_utf8(text);
  Ids ids;
  for (const std::string_view slice : slices(sound)) content_->encode(slice, with_special, ids);
  return ids;
}

std::string Tokenizer::decode(const std::vector<int64_t>& ids) const {
  std::string text;
  for (const int64_t id : ids) {
    const auto found = content_->back.find(id);
    if (found == content_->back.end()) refuse("there is no token {}; ids lie in 0..{}", id, size() - 1);
    text += found->second;
  }
  return text;
}

int64_t Tokenizer::special(const std::string& name) const {
  const auto found = content_->special.find(name);
  if (found == content_->special.end()) fail("the tokenizer has no special token '{}'", name);
  return found->second;
}

int64_t Tokenizer::size() const {
  int64_t largest = -1;
  for (const auto* group : {&content_->ranks, &content_->special}) {
    for (const auto& [bytes, id] : *group) largest = std::max(largest, id);
  }
  return largest + 1;
}

}  // namespace klab
