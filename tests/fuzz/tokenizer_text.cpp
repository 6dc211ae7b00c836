// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include "fuzz/target.h"
#include "fuzz/tokenizer_files.h"

namespace klab::fuzz {
namespace {

Tokenizer tiktoken_sample() {
  std::filesystem::create_directories(scratch_folder() + "/text_tiktoken");
  scratch_file("text_tiktoken/tiktoken.model",
               tiktoken_file("@BYTES@\nYWI= 256\nYWJj 257\nICA= 258\n5L0= 259\n5L2g 260\n"));
  scratch_file("text_tiktoken/tokenizer_config.json",
               R"({"added_tokens_decoder": {"261": {"content": "<|end|>"}, "262": {"content": "<|end|>>"}}})");
  return Tokenizer::load(scratch_folder() + "/text_tiktoken");
}

Tokenizer json_sample(const std::string& name, const std::string& normalizer) {
  std::filesystem::create_directories(scratch_folder() + "/" + name);
  scratch_file(name + "/tokenizer.json", tokenizer_json_file(R"({
    "model": {"type": "BPE", "vocab": {@BYTES@, "ab": 256, "abc": 257, "\u0120a": 258}, "merges": ["a b", "ab c", "\u0120 a"]},
    "added_tokens": [{"id": 259, "content": "<|end|>", "special": true},
                     {"id": 260, "content": "<think>", "special": false, "normalized": true}],
    "normalizer": )" + normalizer + R"(,
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "behavior": "Isolated",
       "pattern": {"Regex": "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s+(?!\\S)|\\s+"}},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]},
    "decoder": {"type": "ByteLevel"}})"));
  return Tokenizer::load(scratch_folder() + "/" + name);
}

}  // namespace

// A text. Where it is not UTF-8 its tokens stand for the repaired text; a normalized text is its own normal form.
void tokenizer_text(std::string_view input) {
  static const Tokenizer kTiktoken = tiktoken_sample();
  static const Tokenizer kPlain = json_sample("text_plain", "null");
  static const Tokenizer kComposed = json_sample("text_composed", R"({"type": "NFC"})");
  const std::string text = repaired_utf8(input);
  expect(repaired_utf8(text) == text, "a repaired text is not UTF-8");
  for (const Tokenizer* tokenizer : {&kTiktoken, &kPlain}) {
    expect_round_trip(*tokenizer, text);
    expect(tokenizer->encode(input) == tokenizer->encode(text), "a repaired text has other tokens");
  }
  for (const bool special : {true, false}) {
    const std::string composed = kComposed.decode(kComposed.encode(text, special));
    expect(kComposed.decode(kComposed.encode(composed, special)) == composed,
           "a normalized text has another normal form");
  }
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(tokenizer_text)
