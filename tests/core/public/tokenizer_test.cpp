// SPDX-License-Identifier: Apache-2.0
// The tokenizer's files, and invalid UTF-8; tests/conformance compares token ids with those of tiktoken and tokenizers.
#include "core/public/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"

namespace klab {
namespace {

std::string base64(const std::string& bytes) {
  static const char* kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t j = 0; j < 3; ++j)
      bits = bits << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) out += i + j <= bytes.size() ? kAlphabet[bits >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

class TokenizerTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/klab_tokenizer_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // All single bytes, then these merges.
  std::string model(const std::vector<std::string>& merged) const {
    std::string text;
    for (int byte = 0; byte < 256; ++byte)
      text += base64(std::string(1, static_cast<char>(byte))) + " " + std::to_string(byte) + "\n";
    for (size_t i = 0; i < merged.size(); ++i) text += base64(merged[i]) + " " + std::to_string(256 + i) + "\n";
    return text;
  }
  Tokenizer load(const std::string& text) const {
    write_file(folder_ + "/tiktoken.model", text);
    return Tokenizer::load(folder_);
  }
  std::string refusal(const std::string& text) const {
    try {
      load(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  std::string folder_;
};

using Ids = std::vector<int64_t>;

TEST_F(TokenizerTest, MergesTheLowestRankFirstAndTheLeftmostOfEquals) {
  const Tokenizer tokenizer = load(model({"bc", "ab", "aa", "aaaa"}));
  EXPECT_EQ(tokenizer.encode("abc"), (Ids{'a', 256}));
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{257}));
  EXPECT_EQ(tokenizer.encode("aaa"), (Ids{258, 'a'}));
  EXPECT_EQ(tokenizer.encode("aaaaaaa"), (Ids{259, 258, 'a'}));
  EXPECT_EQ(tokenizer.encode(""), Ids{});
  EXPECT_EQ(tokenizer.decode({259, 'b', 256}), "aaaabbc");
}

TEST_F(TokenizerTest, KnowsSpecialTokensByTheirNames) {
  write_file(folder_ + "/tokenizer_config.json", R"({"added_tokens_decoder": {"256": {"content": "[BOS]"}}})");
  const Tokenizer tokenizer = load(model({}));
  EXPECT_EQ(tokenizer.special("[BOS]"), 256);
  EXPECT_EQ(tokenizer.size(), 256 + 258);
  EXPECT_EQ(tokenizer.encode("a[BOS]b<|reserved_token_257|>"), (Ids{'a', 256, 'b', 257}));
  EXPECT_EQ(tokenizer.encode("[BOS]", /*special=*/false).size(), 5u);
  EXPECT_EQ(tokenizer.decode({256}), "[BOS]");
  EXPECT_THROW(tokenizer.special("[EOT]"), Error);
  EXPECT_THROW(tokenizer.decode({514}), UsageError);
  EXPECT_THROW(tokenizer.decode({-1}), UsageError);
}

TEST_F(TokenizerTest, EncodesAMegabyteOfOneLetter) {
  const Tokenizer tokenizer = load(model({"aa", "aaaa", "aaaaaaaa"}));
  EXPECT_EQ(tokenizer.encode(std::string(1'000'000, 'a')), Ids(125'000, 258));
}

TEST_F(TokenizerTest, CountsWhatIsNoUtf8AsReplacementCharacters) {
  EXPECT_EQ(repaired_utf8("a\xFF\xC3(\xE2\x82"
                          "b\xED\xA0\x80\xF0\x9F\x98\x80"),
            "a\xEF\xBF\xBD\xEF\xBF\xBD(\xEF\xBF\xBD"
            "b\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xF0\x9F\x98\x80");
  EXPECT_EQ(repaired_utf8("\xF4\x90\x80\x80\xC0\x80\xE2"),
            "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST_F(TokenizerTest, RefusesWrongFilesByLine) {
  EXPECT_NE(refusal(model({}) + "YWI=\n").find("line 257"), std::string::npos);
  EXPECT_NE(refusal(model({}) + "Y!I= 300\n").find("base64"), std::string::npos);
  EXPECT_NE(refusal(model({}) + "YWI= x\n").find("rank"), std::string::npos);
  EXPECT_NE(refusal(model({}) + "YWI= 2147483648\n").find("at most 2147483647"), std::string::npos);
  EXPECT_NE(refusal(model({"ab", "ab"})).find("duplicate token"), std::string::npos);
  EXPECT_NE(refusal(model({"ab"}) + "YWM= 256\n").find("two tokens of id 256"), std::string::npos);
  EXPECT_NE(refusal("YQ== 0\n").find("lacks a token for the byte 0"), std::string::npos);
  EXPECT_THROW(Tokenizer::load(folder_ + "/none"), Error);
  write_file(folder_ + "/tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": 1}}");
  EXPECT_NE(refusal(model({})).find("added_tokens_decoder"), std::string::npos);
  write_file(folder_ + "/tokenizer_config.json", "{");
  EXPECT_NE(refusal(model({})).find("JSON"), std::string::npos);
}

// --- tokenizer.json

// A character for every byte: itself if it is printable, else one from U+0100 on.
std::string byte_character(int byte) {
  const auto in_file = [](int code) {
    std::string c;
    if (code < 0x80) return std::string(1, static_cast<char>(code));
    c += static_cast<char>(0xC0 | code >> 6);
    return c += static_cast<char>(0x80 | (code & 0x3F));
  };
  const auto printable = [](int b) { return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE; };
  int next = 0x100;
  for (int b = 0; b < byte; ++b) next += printable(b) ? 0 : 1;
  return in_file(printable(byte) ? byte : next);
}

class TokenizerJsonTest : public TokenizerTest {
 protected:
  using Json = nlohmann::ordered_json;

  // All single bytes, then the tokens of these merges, then the added tokens.
  static Json content(const std::vector<std::pair<std::string, std::string>>& merges,
                      const std::vector<std::string>& added = {}) {
    Json vocabulary = Json::object(), pairs = Json::array(), names = Json::array();
    for (int byte = 0; byte < 256; ++byte) vocabulary[byte_character(byte)] = byte;
    for (const auto& [left, right] : merges) {
      if (!vocabulary.contains(left + right)) vocabulary[left + right] = vocabulary.size();
      pairs.push_back({left, right});
    }
    for (const std::string& name : added) {
      names.push_back({{"id", vocabulary.size() + names.size()}, {"content", name}, {"special", true}});
    }
    return {{"added_tokens", names},
            {"normalizer", nullptr},
            {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
            {"decoder", {{"type", "ByteLevel"}}},
            {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", pairs}}}};
  }
  Tokenizer load(const Json& json) const {
    write_file(folder_ + "/tokenizer.json", json.dump());
    return Tokenizer::load(folder_);
  }
  // The message after the path, for a change of a file that is right.
  std::string refusal(const std::function<void(Json&)>& change) const {
    Json json = content({{"a", "b"}}, {"<s>", "<t>"});
    change(json);
    try {
      load(json);
    } catch (const Error& error) {
      const std::string message = error.what(), path = folder_ + "/tokenizer.json";
      EXPECT_EQ(message.find(path), 0u) << message;
      return message.substr(path.size());
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
  }
  void expect_refusal(const std::function<void(Json&)>& change, const std::string& part) const {
    const std::string message = refusal(change);
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
};

TEST_F(TokenizerJsonTest, MergesTheFirstOfTheListFirst) {
  const Tokenizer tokenizer = load(content({{"b", "c"}, {"a", "b"}, {"a", "a"}, {"aa", "aa"}}));
  EXPECT_EQ(tokenizer.encode("abc"), (Ids{'a', 256}));
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{257}));
  EXPECT_EQ(tokenizer.encode("aaaaaaa"), (Ids{259, 258, 'a'}));
  EXPECT_EQ(tokenizer.encode(""), Ids{});
  EXPECT_EQ(tokenizer.decode({259, 'b', 256}), "aaaabbc");
  EXPECT_EQ(tokenizer.size(), 260);
}

TEST_F(TokenizerJsonTest, MergesListedPairsOnly) {
  Json json = content({{"b", "c"}, {"a", "b"}, {"ab", "c"}});
  EXPECT_EQ(load(json).encode("abc abc"), (Ids{'a', 256, ' ', 'a', 256}))
      << "the token abc is out of reach of its bytes";
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(load(json).encode("abc"), (Ids{258}));
  json["model"]["ignore_merges"] = false;
  json["model"]["merges"] = {"#version: 0.2", "a b", "ab c", "b c"};
  EXPECT_EQ(load(json).encode("abc"), (Ids{258})) << "the older form";
}

TEST_F(TokenizerJsonTest, FindsAddedTokens) {
  Json json = content({}, {"<s>", "<s>>", "<think>"});
  json["added_tokens"][2]["special"] = false;
  const Tokenizer tokenizer = load(json);
  EXPECT_EQ(tokenizer.special("<s>"), 256);
  EXPECT_TRUE(tokenizer.has_special("<s>>"));
  EXPECT_FALSE(tokenizer.has_special("<think>"));
  EXPECT_EQ(tokenizer.encode("<s>a<s>>>"), (Ids{256, 'a', 257, '>'}));
  EXPECT_EQ(tokenizer.encode("<s>a<think>", /*special=*/false), (Ids{'<', 's', '>', 'a', 258}));
  EXPECT_EQ(tokenizer.encode_plain("<s>a<think>"), (Ids{'<', 's', '>', 'a', '<', 't', 'h', 'i', 'n', 'k', '>'}));
  EXPECT_EQ(tokenizer.decode({256, 258}), "<s><think>");
  EXPECT_TRUE(tokenizer.has(258));
  EXPECT_FALSE(tokenizer.has(259));
  EXPECT_THROW(tokenizer.decode({259}), UsageError);
}

TEST_F(TokenizerJsonTest, SplitsAndNormalizesAsTheFileSays) {
  Json json = content({{byte_character(0xC3), byte_character(0xA9)}, {"1", "2"}, {byte_character(' '), "x"}});
  EXPECT_EQ(load(json).encode("e\u0301"), (Ids{'e', 0xCC, 0x81}));
  json["normalizer"] = {{"type", "NFC"}};
  EXPECT_EQ(load(json).encode("e\u0301 x"), (Ids{256, 258}));
  json["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", "\\p{N}|\\s+"}}}, {"behavior", "Isolated"}, {"invert", false}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  EXPECT_EQ(load(json).encode("12 x"), (Ids{'1', '2', ' ', 'x'}));
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}};
  EXPECT_EQ(load(json).encode("x"), (Ids{258}));
}

TEST_F(TokenizerJsonTest, BytesOfACharacterMayBeSeveralTokens) {
  const Tokenizer tokenizer = load(content({}));
  EXPECT_EQ(tokenizer.encode("€"), (Ids{0xE2, 0x82, 0xAC}));
  EXPECT_EQ(tokenizer.decode({0xE2, 0x82}), "\xE2\x82");
  EXPECT_EQ(tokenizer.encode("\xE2\x82"), tokenizer.encode("\uFFFD")) << "invalid UTF-8 is replaced";
}

TEST_F(TokenizerJsonTest, IsReadWithoutTiktokenModelOnly) {
  EXPECT_FALSE(Tokenizer::is_in(folder_));
  load(content({}));
  EXPECT_TRUE(Tokenizer::is_in(folder_));
  EXPECT_EQ(TokenizerTest::load(model({})).size(), 256 + 258);
}

TEST_F(TokenizerJsonTest, MayHaveMoreTokensThanAModelOnlyByMistake) {
  const Tokenizer tokenizer = load(content({}, {"<s>"}));
  tokenizer.require_vocabulary(257);
  EXPECT_THROW(tokenizer.require_vocabulary(256), UsageError);
}

TEST_F(TokenizerJsonTest, RefusesWrongFilesByField) {
  expect_refusal([](Json& json) { json["model"]["type"] = "Unigram"; }, ", model.type is \"Unigram\"");
  expect_refusal([](Json& json) { json["model"]["byte_fallback"] = true; }, ", model.byte_fallback");
  expect_refusal([](Json& json) { json["model"]["dropout"] = 0.1; }, ", model.dropout");
  expect_refusal([](Json& json) { json["model"]["end_of_word_suffix"] = "</w>"; }, ", model.end_of_word_suffix");
  expect_refusal([](Json& json) { json["model"]["other"] = 1; }, "model.other");
  expect_refusal([](Json& json) { json["model"].erase("merges"); }, ", model.merges is null");
  expect_refusal([](Json& json) { json["model"]["merges"][0] = "a b c"; }, ", model.merges[0]");
  expect_refusal([](Json& json) { json["model"]["merges"][0] = {"a", "c"}; }, "'ac' is not in model.vocab");
  expect_refusal([](Json& json) { json["model"]["vocab"]["ab"] = -1; }, ", model.vocab.ab is -1");
  expect_refusal([](Json& json) { json["model"]["vocab"]["ab"] = 97; }, "the id 97");
  expect_refusal([](Json& json) { json["model"]["vocab"]["ab"] = 300; }, "no token has the id 256");
  expect_refusal([](Json& json) { json["model"]["vocab"].erase("x"); },
                 ", model.vocab: lacks a token for the byte 120");
  expect_refusal([](Json& json) { json["added_tokens"][1]["id"] = 257; }, "'<t>' is also that of '<s>'");
  expect_refusal([](Json& json) { json["added_tokens"][1]["content"] = "ab"; }, ", added_tokens: 'ab' has the id 258");
  expect_refusal([](Json& json) { json["added_tokens"][1]["rstrip"] = true; }, ", added_tokens[1].rstrip");
  expect_refusal([](Json& json) { json["normalizer"] = {{"type", "NFKC"}}; }, ", normalizer.type");
  expect_refusal([](Json& json) { json["pre_tokenizer"] = nullptr; }, ", pre_tokenizer is null");
  expect_refusal([](Json& json) { json["pre_tokenizer"]["type"] = "Whitespace"; }, ", pre_tokenizer");
  expect_refusal([](Json& json) { json["post_processor"] = {{"type", "BertProcessing"}}; }, ", post_processor.type");
  expect_refusal([](Json& json) { json["decoder"]["type"] = "Fuse"; }, ", decoder");
  expect_refusal([](Json& json) { json["extra"] = 1; }, "extra");
  write_file(folder_ + "/tokenizer.json", "{");
  EXPECT_THROW(Tokenizer::load(folder_), Error);
}

TEST_F(TokenizerJsonTest, RefusesPatternsThatMeanSomethingElseInPcre2) {
  for (const char* pattern :
       {"[a-z&&[^b]]+", "[[a]b]", "\\w+", "a.b", "^a", "a{2}+", "(?i)a", "\\p{L", "\\h", "[ab", "(?:a"}) {
    const Json split = {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}};
    const Json last = {{"type", "ByteLevel"}};
    expect_refusal(
        [&](Json& json) {
          json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, last}}};
        },
        ", pre_tokenizer.pretokenizers[0].pattern.Regex: the pattern");
  }
}

}  // namespace
}  // namespace klab
