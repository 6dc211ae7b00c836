// SPDX-License-Identifier: Apache-2.0
#include "core/public/tokenizer.h"

#include <fmt/format.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uniset.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <limits>
#include <queue>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/utf8.h"
#include "core/public/split_pattern.h"
#include "core/public/tokenizer_json.h"

namespace klab {
namespace {

using Ids = std::vector<int64_t>;

constexpr int64_t kReserved = 258;      // number of special tokens after the ranks in the published tokenizer
constexpr size_t kLongestRun = 25'000;  // characters
constexpr size_t kLongestText = 400'000;

// --- Texts before they are split

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

// Unicode's normalization form C. Like in the package tokenizers, whose tables are those of Unicode 9, later characters
// are left as they are.
const icu::Normalizer2& form_c() {
  const auto check = [](UErrorCode status) {
    if (U_FAILURE(status)) fail("ICU's data for normalization could not be read: {}", u_errorName(status));
  };
  static const icu::UnicodeSet kCharacters = [&] {
    UErrorCode status = U_ZERO_ERROR;
    icu::UnicodeSet set(u"[:age=9.0:]", status);
    check(status);
    set.freeze();
    return set;
  }();
  static const icu::FilteredNormalizer2 kFiltered = [&] {
    UErrorCode status = U_ZERO_ERROR;
    const icu::Normalizer2* all = icu::Normalizer2::getNFCInstance(status);
    check(status);
    return icu::FilteredNormalizer2(*all, kCharacters);
  }();
  return kFiltered;
}

// Appends a part of a well-formed text in this form.
void compose(std::string_view part, std::string& out) {
  constexpr size_t kLargest = 1 << 30;
  if (part.size() > kLargest) fail("a text of {} bytes is too long to be normalized", part.size());
  UErrorCode status = U_ZERO_ERROR;
  icu::StringByteSink<std::string> sink(&out);
  form_c().normalizeUTF8(0, {part.data(), static_cast<int32_t>(part.size())}, sink, nullptr, status);
  if (U_FAILURE(status)) fail("a text could not be normalized: {}", u_errorName(status));
}

// A well-formed text in this form. Characters below U+0300, whose first byte is below 0xCC, stay as they are, unless a
// later one follows, and never combine with what precedes them.
std::string composed(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto follows = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };  // inside a character
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t later = at;
    while (later < text.size() && byte(later) < 0xCC) ++later;
    size_t begin = later;
    if (later < text.size() && later > at) {
      --begin;
      while (begin > at && follows(begin)) --begin;
    }
    size_t end = later;
    while (end < text.size() && (byte(end) >= 0xCC || follows(end))) ++end;
    out += text.substr(at, begin - at);
    if (end > begin) compose(text.substr(begin, end - begin), out);
    at = end;
  }
  return out;
}

// --- The pattern

// The published pattern uses intersections of character classes ("letters && [^Han]") and Unicode's White_Space for \s.
// PCRE2 supports neither; a lookahead and an explicit list replace them.
std::string published_pattern() {
  const std::string blank = kBlankCharacters;
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

// --- Byte-pair encoding

constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();

// What two neighbours become.
struct Merge {
  int32_t rank = kNoRank, id = -1;
};

// Whether the merges of a token's bytes give the token; found out when it is met first.
enum class Whole : uint8_t { kUnknown, kNo, kYes };

struct Known {
  int32_t id;
  Whole whole;
};

// The tokens and the merges. In the tiktoken form each token is a merge of any two parts that give its bytes, and its
// id is the rank; in tokenizer.json merges are listed.
class Vocabulary {
 public:
  // Every single byte must be a token; `whole_first`: a piece that is a token is not merged.
  Vocabulary(std::map<std::string, int64_t> tokens, bool whole_first) : tokens_(std::move(tokens)) {
    for (size_t byte = 0; byte < bytes_.size(); ++byte) {
      const auto found = tokens_.find(std::string(1, static_cast<char>(byte)));
      if (found == tokens_.end()) {
        fail("the tokenizer lacks a token for the byte {}: not every text could be encoded", byte);
      }
      bytes_[byte] = static_cast<int32_t>(found->second);
    }
    by_bytes_.reserve(tokens_.size());
    for (const auto& [bytes, id] : tokens_) {
      if (id < 0 || id >= kNoRank) fail("the tokenizer has the id {}, but ids lie in 0..{}", id, kNoRank - 1);
      by_bytes_.emplace(bytes, Known{static_cast<int32_t>(id), whole_first ? Whole::kYes : Whole::kUnknown});
    }
  }

  // The last of equal pairs counts, as in the package tokenizers.
  void list(const std::vector<TokenMerge>& merges) {
    listed_ = true;
    pairs_.reserve(merges.size());
    int32_t rank = 0;
    for (const TokenMerge& merge : merges) {
      pairs_[key(merge.left, merge.right)] = {rank++, static_cast<int32_t>(merge.merged)};
    }
  }

  const std::map<std::string, int64_t>& tokens() const { return tokens_; }
  int32_t byte(char c) const { return bytes_[static_cast<unsigned char>(c)]; }

  // The token of these bytes, if there is one.
  Known* known(std::string_view bytes) const {
    const auto found = by_bytes_.find(bytes);
    return found == by_bytes_.end() ? nullptr : &found->second;
  }

  Merge merge(int32_t left, int32_t right, std::string_view bytes) const {
    if (listed_) {
      const auto found = pairs_.find(key(left, right));
      return found == pairs_.end() ? Merge{} : found->second;
    }
    const Known* token = known(bytes);
    return token == nullptr ? Merge{} : Merge{token->id, token->id};
  }

 private:
  static uint64_t key(int64_t left, int64_t right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
  }

  std::map<std::string, int64_t> tokens_;
  mutable std::unordered_map<std::string_view, Known> by_bytes_;  // views of the keys of `tokens_`
  std::unordered_map<uint64_t, Merge> pairs_;
  std::array<int32_t, 256> bytes_{};
  bool listed_ = false;
};

// Byte-pair merges of one piece: a linked list of parts and a heap of pairs by rank, in which stale entries are
// skipped.
class Merging {
 public:
  Merging(const Vocabulary& vocabulary, std::string_view piece)
      : vocabulary_(vocabulary), piece_(piece), size_(static_cast<int32_t>(piece.size())), parts_(piece.size() + 1) {
    for (int32_t i = 0; i < size_; ++i) part(i) = {i + 1, i - 1, vocabulary.byte(piece[static_cast<size_t>(i)])};
    for (int32_t i = 0; i + 1 < size_; ++i) offer(i);
  }

  void append_to(Ids& out) {
    while (!pairs_.empty()) {
      const Pair pair = pairs_.top();
      pairs_.pop();
      if (!stale(pair)) join(pair);
    }
    for (int32_t begin = 0; begin < size_; begin = part(begin).next) out.push_back(part(begin).id);
  }

 private:
  static constexpr int32_t kMerged = -2;  // no part begins here anymore

  struct Part {
    int32_t next, before, id;  // neighbours of the part that begins there, and its token
  };
  struct Pair {
    int32_t rank, begin, end, id;
    bool operator>(const Pair& other) const { return std::pair(rank, begin) > std::pair(other.rank, other.begin); }
  };

  Part& part(int32_t begin) { return parts_[static_cast<size_t>(begin)]; }

  void offer(int32_t begin) {
    const int32_t middle = part(begin).next;
    if (middle >= size_) return;
    const int32_t end = part(middle).next;
    const std::string_view bytes = piece_.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    const Merge merged = vocabulary_.merge(part(begin).id, part(middle).id, bytes);
    if (merged.rank != kNoRank) pairs_.push({merged.rank, begin, end, merged.id});
  }

  // The two parts are the same as long as their ends are, because parts only grow to the right.
  bool stale(const Pair& pair) {
    const Part& left = part(pair.begin);
    return left.before == kMerged || left.next >= size_ || part(left.next).next != pair.end;
  }

  void join(const Pair& pair) {
    Part& left = part(pair.begin);
    part(left.next).before = kMerged;
    left.next = pair.end;
    left.id = pair.id;
    part(pair.end).before = pair.begin;
    if (left.before >= 0) offer(left.before);
    offer(pair.begin);
  }

  const Vocabulary& vocabulary_;
  std::string_view piece_;
  int32_t size_;
  std::vector<Part> parts_;
  std::priority_queue<Pair, std::vector<Pair>, std::greater<>> pairs_;
};

void merge(const Vocabulary& vocabulary, std::string_view piece, Ids& out) {
  if (piece.size() == 1) return out.push_back(vocabulary.byte(piece.front()));
  if (piece.size() >= static_cast<size_t>(kNoRank)) fail("a word of {} bytes is too long", piece.size());
  Known* token = vocabulary.known(piece);
  if (token != nullptr && token->whole == Whole::kYes) return out.push_back(token->id);
  const size_t before = out.size();
  Merging(vocabulary, piece).append_to(out);
  if (token != nullptr) token->whole = out.size() == before + 1 ? Whole::kYes : Whole::kNo;
}

// --- Added tokens

// Finds added tokens in texts: the longest of those that begin first.
class AddedTokens {
 public:
  void add(AddedToken token) {
    if (first_bytes_.find(token.content.front()) == std::string::npos) first_bytes_ += token.content.front();
    tokens_.push_back(std::move(token));
  }

  // Calls `on_token` and `on_text` for the parts of a text in order. Tokens that `counts` rejects are text.
  template <class Counts, class Token, class Text>
  void split(std::string_view text, const Counts& counts, const Token& on_token, const Text& on_text) const {
    size_t start = 0;
    for (size_t at = 0; at < text.size();) {
      const AddedToken* found = longest_at(text.substr(at));
      const size_t length = found != nullptr ? found->content.size() : 1;
      if (found != nullptr && counts(*found)) {
        if (at > start) on_text(text.substr(start, at - start));
        on_token(found->id);
        start = at + length;
      }
      at += length;
    }
    if (start < text.size()) on_text(text.substr(start));
  }

 private:
  const AddedToken* longest_at(std::string_view text) const {
    if (first_bytes_.find(text.front()) == std::string::npos) return nullptr;
    const AddedToken* best = nullptr;
    for (const AddedToken& token : tokens_) {
      const bool longer = best == nullptr || token.content.size() > best->content.size();
      if (longer && text.starts_with(token.content)) best = &token;
    }
    return best;
  }

  std::vector<AddedToken> tokens_;
  std::string first_bytes_;
};

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
    if (blank == std::string_view::npos || rank < 0 || rank > INT32_MAX ||
        !decode_base64(text.substr(0, blank), bytes)) {
      fail("{}, line {}: must be a token's bytes in base64, a space and its rank, at most {}", path, line, INT32_MAX);
    }
    if (!ranks.emplace(bytes, rank).second) fail("{}, line {}: duplicate token", path, line);
  }
  return ranks;
}

// Names of special tokens by id, from tokenizer_config.json.
std::map<int64_t, std::string> read_names(const std::string& path) {
  std::map<int64_t, std::string> names;
  if (!std::filesystem::exists(path)) return names;
  const auto json = parse_sorted_json(read_file(path), path);
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

// The added tokens whose names are looked for in a text.
enum class Tokenizer::Names { kAll, kNotSpecial, kNone };

struct Tokenizer::Content {
  explicit Content(Vocabulary all) : vocabulary(std::move(all)) {
    for (const auto& [bytes, id] : vocabulary.tokens()) name(id, bytes);
  }

  Vocabulary vocabulary;
  AddedTokens raw, normalized;  // looked for before and after normalization
  std::map<std::string, int64_t> special;
  std::unordered_map<int64_t, std::string> back;  // bytes of all tokens, by id
  std::vector<SplitStep> steps;
  bool nfc = false;
  bool sliced = false;  // long texts are cut
  std::string file;     // tokenizer.json

  void name(int64_t id, const std::string& bytes) {
    const auto [at, fresh] = back.emplace(id, bytes);
    if (!fresh && at->second != bytes) fail("the tokenizer has two tokens of id {}", id);
  }

  void add(AddedToken token) {
    if (token.special) special[token.content] = token.id;
    name(token.id, token.content);
    if (token.normalized && nfc) token.content = composed(token.content);
    (token.normalized ? normalized : raw).add(std::move(token));
  }

  // Text between added tokens is normalized, split and merged.
  void encode(std::string_view text, Names names, Ids& out) const {
    const auto counts = [&](const AddedToken& one) {
      return names == Names::kAll || (names == Names::kNotSpecial && !one.special);
    };
    const auto token = [&](int64_t id) { out.push_back(id); };
    const auto plain = [&](std::string_view part) { split(part, 0, out); };
    raw.split(text, counts, token, [&](std::string_view part) {
      const std::string form = nfc ? composed(part) : std::string();
      normalized.split(nfc ? std::string_view(form) : part, counts, token, plain);
    });
  }

  // The steps of splitting from `step` on, then the merges.
  void split(std::string_view text, size_t step, Ids& out) const {
    if (step == steps.size()) return merge(vocabulary, text, out);
    std::string longer;
    if (steps[step].prefix_space && !text.starts_with(' ')) {
      longer = " " + std::string(text);
      text = longer;
    }
    if (steps[step].pattern.empty()) return split(text, step + 1, out);
    steps[step].pattern.front().split(text, [&](std::string_view piece) { split(piece, step + 1, out); });
  }
};

Tokenizer::Tokenizer(std::unique_ptr<Content> content) : content_(std::move(content)) {}

Tokenizer::Tokenizer(std::map<std::string, int64_t> ranks, const std::map<std::string, int64_t>& special)
    : content_(std::make_unique<Content>(Vocabulary(std::move(ranks), /*whole_first=*/true))) {
  content_->sliced = true;
  content_->steps.emplace_back().pattern.emplace_back(published_pattern(), "the tokenizer");
  for (const auto& [name, id] : special) {
    if (name.empty()) fail("the tokenizer's special token {} has no name", id);
    if (content_->back.count(id) > 0) fail("the tokenizer has two tokens of id {}", id);
    content_->add({name, id, /*special=*/true, /*normalized=*/false});
  }
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

bool Tokenizer::is_in(const std::string& folder) {
  return std::filesystem::exists(folder + "/tiktoken.model") || std::filesystem::exists(folder + "/tokenizer.json");
}

Tokenizer Tokenizer::load(const std::string& folder) {
  const bool json =
      !std::filesystem::exists(folder + "/tiktoken.model") && std::filesystem::exists(folder + "/tokenizer.json");
  return json ? load_json(folder + "/tokenizer.json") : load_tiktoken(folder);
}

Tokenizer Tokenizer::load_tiktoken(const std::string& folder) {
  std::map<std::string, int64_t> ranks = read_ranks(folder + "/tiktoken.model");
  const std::map<int64_t, std::string> names = read_names(folder + "/tokenizer_config.json");
  std::map<std::string, int64_t> special;
  const auto first = static_cast<int64_t>(ranks.size());
  for (int64_t id = first; id < first + kReserved; ++id) {
    const auto named = names.find(id);
    special[named == names.end() ? fmt::format("<|reserved_token_{}|>", id) : named->second] = id;
  }
  return Tokenizer(std::move(ranks), special);
}

Tokenizer Tokenizer::load_json(const std::string& path) {
  TokenizerJson json = read_tokenizer_json(path);
  auto content = std::make_unique<Content>(Vocabulary(std::move(json.tokens), json.whole_first));
  content->file = path;
  content->vocabulary.list(json.merges);
  content->nfc = json.nfc;
  content->steps = std::move(json.steps);
  for (const auto& [id, name] : json.unwritable) content->name(id, name);
  for (AddedToken& token : json.added) content->add(std::move(token));
  return Tokenizer(std::move(content));
}

std::vector<int64_t> Tokenizer::encode(std::string_view text, bool with_special) const {
  return encode_with(text, with_special ? Names::kAll : Names::kNotSpecial);
}

std::vector<int64_t> Tokenizer::encode_plain(std::string_view text) const { return encode_with(text, Names::kNone); }

std::vector<int64_t> Tokenizer::encode_with(std::string_view text, Names names) const {
  const std::string sound = repaired_utf8(text);
  Ids ids;
  if (!content_->sliced) {
    content_->encode(sound, names, ids);
    return ids;
  }
  for (const std::string_view slice : slices(sound)) content_->encode(slice, names, ids);
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

bool Tokenizer::has(int64_t id) const { return content_->back.count(id) > 0; }

int64_t Tokenizer::special(const std::string& name) const {
  if (!has_special(name)) fail("the tokenizer has no special token '{}'", name);
  return content_->special.at(name);
}

bool Tokenizer::has_special(const std::string& name) const { return content_->special.count(name) > 0; }

int64_t Tokenizer::size() const {
  int64_t largest = -1;
  for (const auto& [id, bytes] : content_->back) largest = std::max(largest, id);
  return largest + 1;
}

void Tokenizer::require_vocabulary(int64_t vocabulary) const {
  if (content_->file.empty() || size() <= vocabulary) return;
  refuse("{}, model.vocab and added_tokens: ids reach {}, but the model's vocabulary is 0..{}", content_->file,
         size() - 1, vocabulary - 1);
}

}  // namespace klab
