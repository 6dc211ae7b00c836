// SPDX-License-Identifier: Apache-2.0
#include "core/public/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <limits>
#include <optional>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/utf8.h"

namespace klab {
namespace {

using Json = nlohmann::json;

// The pattern of ByteLevel with use_regex, published with GPT-2.
constexpr const char* kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// --- Values with their place in the file

class JsonField {
 public:
  JsonField(const Json& value, std::string path, std::string name)
      : value_(value), path_(std::move(path)), name_(std::move(name)) {}

  const Json& json() const { return value_; }
  bool null() const { return value_.is_null(); }
  std::string place() const { return fmt::format("{}, {}", path_, name_); }

  [[noreturn]] void must_be(const std::string& expected) const {
    constexpr size_t kShown = 60;
    std::string text = value_.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() > kShown) text = text.substr(0, kShown) + "...";
    fail("{} is {}, but must be {}", place(), text, expected);
  }

  // A missing member is null.
  JsonField at(const std::string& key) const {
    static const Json kNull;
    if (!value_.is_object()) must_be("an object");
    const auto found = value_.find(key);
    return {found == value_.end() ? kNull : *found, path_, name_.empty() ? key : name_ + "." + key};
  }
  JsonField at(size_t i) const { return {value_[i], path_, fmt::format("{}[{}]", name_, i)}; }

  size_t count() const {
    if (!value_.is_array()) must_be("an array");
    return value_.size();
  }

  void only(std::initializer_list<const char*> known) const {
    if (!value_.is_object()) must_be("an object");
    for (const auto& [key, member] : value_.items()) {
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        fail("{}: klab does not know {}", path_, name_.empty() ? key : name_ + "." + key);
      }
    }
  }

  const std::string& text() const {
    if (!value_.is_string()) must_be("a text");
    return value_.get_ref<const std::string&>();
  }
  bool flag(bool if_missing) const {
    if (null()) return if_missing;
    if (!value_.is_boolean()) must_be("true or false");
    return value_.get<bool>();
  }
  int64_t id() const {
    constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
    if (!value_.is_number_unsigned() || value_.get<uint64_t>() > static_cast<uint64_t>(kLargest)) {
      must_be("a token id");
    }
    return value_.get<int64_t>();
  }
  void must_not_be_set() const {
    if (flag(false)) must_be("false: klab does not support it");
  }
  void must_be_empty() const {
    if (!null() && !(value_.is_string() && text().empty())) must_be("null: klab does not support it");
  }
  std::string type() const { return at("type").text(); }

 private:
  const Json& value_;
  std::string path_, name_;
};

// --- The byte alphabet

// In vocabularies a character stands for each byte: itself if it is printable, else one from U+0100 on.
std::map<char32_t, char> byte_alphabet() {
  std::map<char32_t, char> bytes;
  char32_t next = 0x100;
  for (int byte = 0; byte < 0x100; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    bytes[printable ? static_cast<char32_t>(byte) : next++] = static_cast<char>(byte);
  }
  return bytes;
}

// Nothing if a character stands for no byte.
std::optional<std::string> bytes_of(const std::string& token) {
  static const std::map<char32_t, char> kAlphabet = byte_alphabet();
  std::string bytes;
  for (size_t at = 0, wrong = 0; at < token.size();) {
    const size_t length = character_length(token, at, wrong);
    const auto found = kAlphabet.find(code_point(std::string_view(token).substr(at, length)));
    if (found == kAlphabet.end()) return std::nullopt;
    bytes += found->second;
    at += length;
  }
  return bytes;
}

// --- The parts of the file

void read_vocabulary(const JsonField& field, TokenizerJson& out) {
  if (!field.json().is_object()) field.must_be("an object of tokens and ids");
  for (const auto& [token, value] : field.json().items()) {
    const int64_t id = field.at(token).id();
    if (token.empty()) fail("{} has a token without a name", field.place());
    if (const auto bytes = bytes_of(token)) {
      out.tokens[*bytes] = id;
    } else {
      out.unwritable.emplace_back(id, token);
    }
  }
}

// The id of a token of a merge.
int64_t merged_id(const JsonField& vocabulary, const std::string& token, const JsonField& merge) {
  const auto found = vocabulary.json().find(token);
  if (found == vocabulary.json().end()) {
    fail("{}: '{}' is not in model.vocab", merge.place(), token);
  }
  return found->get<int64_t>();
}

// A merge is "a b" or ["a", "b"].
std::pair<std::string, std::string> halves(const JsonField& merge) {
  const char* expected = "two tokens: \"a b\" or [\"a\", \"b\"]";
  if (merge.json().is_array()) {
    if (merge.count() != 2) merge.must_be(expected);
    return {merge.at(size_t{0}).text(), merge.at(size_t{1}).text()};
  }
  if (!merge.json().is_string()) merge.must_be(expected);
  const std::string& text = merge.text();
  const size_t blank = text.find(' ');
  if (blank == std::string::npos || text.find(' ', blank + 1) != std::string::npos) merge.must_be(expected);
  return {text.substr(0, blank), text.substr(blank + 1)};
}

void read_merges(const JsonField& field, const JsonField& vocabulary, TokenizerJson& out) {
  for (size_t i = 0; i < field.count(); ++i) {
    const JsonField merge = field.at(i);
    // Files in the older form may begin with the first line of a merges.txt.
    if (merge.json().is_string() && merge.text().starts_with("#version")) continue;
    const auto [left, right] = halves(merge);
    out.merges.push_back({merged_id(vocabulary, left, merge), merged_id(vocabulary, right, merge),
                          merged_id(vocabulary, left + right, merge)});
  }
}

void read_model(const JsonField& model, TokenizerJson& out) {
  model.only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
              "byte_fallback", "ignore_merges", "vocab", "merges"});
  // Older files have no type.
  if (!model.at("type").null() && model.type() != "BPE") model.at("type").must_be("BPE");
  const JsonField dropout = model.at("dropout");
  if (!dropout.null() && dropout.json() != 0) dropout.must_be("null: klab does not support it");
  model.at("continuing_subword_prefix").must_be_empty();
  model.at("end_of_word_suffix").must_be_empty();
  model.at("byte_fallback").must_not_be_set();
  out.whole_first = model.at("ignore_merges").flag(false);
  read_vocabulary(model.at("vocab"), out);
  read_merges(model.at("merges"), model.at("vocab"), out);
}

void read_added(const JsonField& field, TokenizerJson& out) {
  if (field.null()) return;
  for (size_t i = 0; i < field.count(); ++i) {
    const JsonField token = field.at(i);
    token.only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    for (const char* flag : {"single_word", "lstrip", "rstrip"}) token.at(flag).must_not_be_set();
    AddedToken added{token.at("content").text(), token.at("id").id(), token.at("special").flag(false), false};
    added.normalized = token.at("normalized").flag(!added.special);
    if (added.content.empty()) token.at("content").must_be("a name");
    out.added.push_back(std::move(added));
  }
}

bool read_normalizer(const JsonField& field) {
  if (field.null()) return false;
  if (field.type() == "NFC") return true;
  if (field.type() != "Sequence") field.at("type").must_be("NFC, Sequence, or the normalizer null");
  const JsonField parts = field.at("normalizers");
  bool nfc = false;
  for (size_t i = 0; i < parts.count(); ++i) nfc = read_normalizer(parts.at(i)) || nfc;
  return nfc;
}

void add_split(const JsonField& field, TokenizerJson& out) {
  field.only({"type", "pattern", "behavior", "invert"});
  field.at("pattern").only({"Regex"});
  if (field.at("behavior").text() != "Isolated") field.at("behavior").must_be("Isolated");
  field.at("invert").must_not_be_set();
  const JsonField pattern = field.at("pattern").at("Regex");
  SplitStep& step = out.steps.emplace_back();
  step.pattern.emplace_back(pcre2_pattern(pattern.text(), pattern.place()), pattern.place());
}

void add_byte_level(const JsonField& field, TokenizerJson& out) {
  field.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  SplitStep& step = out.steps.emplace_back();
  step.prefix_space = field.at("add_prefix_space").flag(true);
  if (field.at("use_regex").flag(true)) {
    step.pattern.emplace_back(pcre2_pattern(kGpt2Pattern, field.place()), field.place());
  }
}

// Splits, and ByteLevel as the last.
void read_pre_tokenizer(const JsonField& field, TokenizerJson& out) {
  const bool several = !field.null() && field.type() == "Sequence";
  const JsonField parts = several ? field.at("pretokenizers") : field;
  const size_t count = several ? parts.count() : 1;
  for (size_t i = 0; i < count; ++i) {
    const JsonField part = several ? parts.at(i) : field;
    const bool last = i + 1 == count;
    if (!part.null() && !last && part.type() == "Split") {
      add_split(part, out);
    } else if (!part.null() && last && part.type() == "ByteLevel") {
      add_byte_level(part, out);
    } else {
      part.must_be(last ? "of type ByteLevel" : "of type Split");
    }
  }
  if (count == 0) parts.must_be("a list that ends with ByteLevel");
}

void check_post_processor(const JsonField& field) {
  if (field.null() || field.type() == "ByteLevel" || field.type() == "TemplateProcessing") return;
  if (field.type() != "Sequence") field.at("type").must_be("ByteLevel, TemplateProcessing or Sequence");
  const JsonField parts = field.at("processors");
  for (size_t i = 0; i < parts.count(); ++i) check_post_processor(parts.at(i));
}

// A token for every byte, without which not every text could be encoded.
void check_bytes(const TokenizerJson& json, const std::string& path) {
  for (int byte = 0; byte < 256; ++byte) {
    if (json.tokens.count(std::string(1, static_cast<char>(byte))) == 0) {
      fail("{}, model.vocab: lacks a token for the byte {}", path, byte);
    }
  }
}

// Every id from 0 on belongs to one token; an added token may be in the vocabulary too.
void check_ids(const TokenizerJson& json, const std::string& path) {
  std::map<int64_t, std::string> names;
  const auto add = [&](int64_t id, const std::string& name, const char* field, bool again) {
    const auto [at, fresh] = names.emplace(id, name);
    if (!fresh && !(again && at->second == name)) {
      fail("{}, {}: the id {} of '{}' is also that of '{}'", path, field, id, name, at->second);
    }
  };
  for (const auto& [bytes, id] : json.tokens) add(id, bytes, "model.vocab", false);
  for (const auto& [id, name] : json.unwritable) add(id, name, "model.vocab", false);
  for (const AddedToken& token : json.added) {
    const auto known = json.tokens.find(bytes_of(token.content).value_or(""));
    if (known != json.tokens.end() && known->second != token.id) {
      fail("{}, added_tokens: '{}' has the id {}, but {} in model.vocab", path, token.content, token.id, known->second);
    }
    add(token.id, known != json.tokens.end() ? known->first : token.content, "added_tokens", true);
  }
  int64_t next = 0;
  for (const auto& [id, name] : names) {
    if (id != next) fail("{}, model.vocab and added_tokens: no token has the id {}", path, next);
    ++next;
  }
}

}  // namespace

TokenizerJson read_tokenizer_json(const std::string& path) {
  const Json json = parse_sorted_json(read_file(path), path);
  const JsonField file(json, path, "");
  if (!json.is_object()) fail("{}: must be a JSON object", path);
  file.only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
             "decoder", "model"});
  TokenizerJson out;
  read_model(file.at("model"), out);
  read_added(file.at("added_tokens"), out);
  out.nfc = read_normalizer(file.at("normalizer"));
  read_pre_tokenizer(file.at("pre_tokenizer"), out);
  check_post_processor(file.at("post_processor"));
  const JsonField decoder = file.at("decoder");
  if (decoder.null() || decoder.type() != "ByteLevel") decoder.must_be("of type ByteLevel");
  check_bytes(out, path);
  check_ids(out, path);
  return out;
}

}  // namespace klab
