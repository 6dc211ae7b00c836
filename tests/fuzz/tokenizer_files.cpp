// SPDX-License-Identifier: Apache-2.0
#include "fuzz/tokenizer_files.h"

#include <fmt/format.h>

#include "fuzz/target.h"

namespace klab::fuzz {
namespace {

constexpr int kByteValues = 256;
constexpr std::string_view kMark = "@BYTES@";

std::string replaced(std::string_view text, const std::string& bytes) {
  const size_t at = text.find(kMark);
  if (at == std::string_view::npos) return std::string(text);
  return std::string(text.substr(0, at)) + bytes + std::string(text.substr(at + kMark.size()));
}

}  // namespace

const std::string_view kSampleText =
    "Hello, w\xC3\xB6rld! it's 12345 <|end|> <think>\t e\xCC\x81 \n\n \xE4\xBD\xA0\xE5\xA5\xBD  \xF0\x9F\x98\x80";

std::string tiktoken_file(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string lines;
  for (size_t byte = 0; byte < kByteValues; ++byte) {
    lines += fmt::format("{}{}== {}\n", kDigits[byte >> 2], kDigits[(byte & 3) << 4], byte);
  }
  lines.pop_back();
  return replaced(text, lines);
}

std::string tokenizer_json_file(std::string_view text) {
  std::string members;
  int next = 0x100;
  for (int byte = 0; byte < kByteValues; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    members += fmt::format("{}\"\\u{:04x}\":{}", byte > 0 ? "," : "", printable ? byte : next++, byte);
  }
  return replaced(text, members);
}

void expect_round_trip(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool special : {true, false}) {
    expect(tokenizer.decode(tokenizer.encode(text, special)) == text, "the tokens of a text are those of another text");
  }
}

}  // namespace klab::fuzz
