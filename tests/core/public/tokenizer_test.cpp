// SPDX-License-Identifier: Apache-2.0
// The tokenizer's files, and invalid UTF-8; tests/conformance compares token ids with tiktoken's.
#include "core/public/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>

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
  EXPECT_NE(refusal(model({"ab", "ab"})).find("duplicate token"), std::string::npos);
  EXPECT_NE(refusal(model({"ab"}) + "YWM= 256\n").find("two tokens of id 256"), std::string::npos);
  EXPECT_NE(refusal("YQ== 0\n").find("lacks a token for the byte 0"), std::string::npos);
  EXPECT_THROW(Tokenizer::load(folder_ + "/none"), Error);
  write_file(folder_ + "/tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": 1}}");
  EXPECT_NE(refusal(model({})).find("added_tokens_decoder"), std::string::npos);
  write_file(folder_ + "/tokenizer_config.json", "{");
  EXPECT_NE(refusal(model({})).find("JSON"), std::string::npos);
}

}  // namespace
}  // namespace klab
