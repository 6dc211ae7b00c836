// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/token_input.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "core/base/file.h"
#include "core/base/support.h"
#include "core/io/safetensors.h"

namespace klab {
namespace {

using TokenRows = std::vector<std::vector<int64_t>>;

TEST(ParseTokens, ReadsPromptsOfIds) {
  EXPECT_EQ(parse_tokens("5,17,3"), (TokenRows{{5, 17, 3}}));
  EXPECT_EQ(parse_tokens("5, 17 ;8"), (TokenRows{{5, 17}, {8}}));
}

TEST(ParseTokens, RefusesWhatIsNoId) {
  for (const char* text : {"", "x", "5,", "5,,6", "5;", ";5", "1.5", "5 6", "99999999999999999999"}) {
    EXPECT_CONTAINS(message_of<UsageError>([&] { parse_tokens(text); }), "--tokens");
  }
  EXPECT_CONTAINS(message_of<UsageError>([] { parse_tokens("5,sixty"); }), "'sixty'");
}

TEST(ParseTokens, ALineEndSeparatesPrompts) {
  EXPECT_EQ(parse_tokens("5,17\r\n8\n"), (TokenRows{{5, 17}, {8}}));
  EXPECT_CONTAINS(message_of<UsageError>([] { parse_tokens("5\n\n8", "ids.txt"); }), "ids.txt: prompt 2 has no token");
}

TEST(ParseTokens, AMessageShowsOnlyTheBeginningOfALongWord) {
  const std::string message = message_of<UsageError>([] { parse_tokens(std::string(100'000, 'x')); });
  EXPECT_LT(message.size(), 300u);
}

TEST(ReadTokens, TakesTheOptionOrAFile) {
  const Folder folder;
  write_file(folder / "ids", "5,17\n8\n");
  EXPECT_EQ(read_tokens({"3;4", ""}), (TokenRows{{3}, {4}}));
  EXPECT_EQ(read_tokens({"", folder / "ids"}), (TokenRows{{5, 17}, {8}}));
  EXPECT_CONTAINS(message_of<UsageError>([] { read_tokens({}); }), "--tokens-file");
  EXPECT_CONTAINS(message_of<UsageError>([&] { read_tokens({"3", folder / "ids"}); }), "--tokens-file");
  EXPECT_CONTAINS(message_of<UsageError>([&] { read_tokens({"", folder / "none"}); }), folder / "none");
}

TEST(ReadTokens, NamesTheFileThatHoldsNoIds) {
  const Folder folder;
  write_file(folder / "words", "one two");
  EXPECT_CONTAINS(message_of<UsageError>([&] { read_tokens({"", folder / "words"}); }), folder / "words");
  write_file(folder / "nothing", "");
  EXPECT_CONTAINS(message_of<UsageError>([&] { read_tokens({"", folder / "nothing"}); }), "there is no token");
}

TEST(ReadTokens, ReadsSafetensors) {
  const Folder folder;
  const torch::Tensor tokens = torch::tensor({1, 2, 3, 4, 5, 6}, torch::kLong).view({2, 3});
  SafetensorsWriter file(folder / "tokens", {entry_of("tokens", tokens)});
  file.write("tokens", tokens);
  file.commit();
  EXPECT_EQ(read_tokens({"", folder / "tokens"}), (TokenRows{{1, 2, 3}, {4, 5, 6}}));
  SafetensorsWriter flat(folder / "flat", {entry_of("tokens", tokens[0])});
  flat.write("tokens", tokens[0]);
  flat.commit();
  EXPECT_CONTAINS(message_of<UsageError>([&] { read_tokens({"", folder / "flat"}); }), "must be [B, T]");
}

TEST(ReadPrompts, TakesTextsAndFilesWithoutTheirLastLineEnd) {
  const Folder folder;
  const std::string large(160'000, 'a');
  write_file(folder / "large", large);
  write_file(folder / "lines", "one\n\ntwo\n\n");
  write_file(folder / "windows", "one\r\n");
  EXPECT_EQ(read_prompts({{"first"}, {folder / "large", folder / "lines", folder / "windows"}}),
            (std::vector<std::string>{"first", large, "one\n\ntwo\n", "one"}));
  EXPECT_CONTAINS(message_of<UsageError>([&] { read_prompts({{}, {folder / "none"}}); }), folder / "none");
}

TEST(ReadPrompts, StandardInputIsOnePrompt) {
  EXPECT_CONTAINS(message_of<UsageError>([] { read_prompts({{}, {"-", "-"}}); }), "--prompt-file -");
}

}  // namespace
}  // namespace klab
