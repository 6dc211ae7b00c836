// SPDX-License-Identifier: Apache-2.0
// Functions of the commands on public checkpoints that need no model.
#include "experiments/command/public_model.h"

#include <gtest/gtest.h>

#include "core/base/file.h"
#include "core/base/support.h"

namespace klab {
namespace {

using Ids = std::vector<int64_t>;

// A token for every byte, with the byte as its id.
Tokenizer byte_tokenizer() {
  std::map<std::string, int64_t> ranks;
  for (int64_t byte = 0; byte < 256; ++byte) ranks[std::string(1, static_cast<char>(byte))] = byte;
  return {ranks, {}};
}

// The text after each byte, and the rest at the end.
std::vector<std::string> streamed(const std::string& bytes) {
  const Tokenizer tokenizer = byte_tokenizer();
  TextStream stream(tokenizer);
  std::vector<std::string> parts;
  for (const char byte : bytes) parts.push_back(stream.push(static_cast<unsigned char>(byte)));
  parts.push_back(stream.rest());
  return parts;
}

const std::string kReplacement = "\xEF\xBF\xBD";

TEST(TextStream, GivesWholeCharacters) {
  EXPECT_EQ(streamed("ab"), (std::vector<std::string>{"a", "b", ""}));
  EXPECT_EQ(streamed("xé!"), (std::vector<std::string>{"x", "", "é", "!", ""}));
  EXPECT_EQ(streamed("€"), (std::vector<std::string>{"", "", "€", ""}));
  EXPECT_EQ(streamed("\xF0\x9F\x98\x80"), (std::vector<std::string>{"", "", "", "\xF0\x9F\x98\x80", ""}));
}

TEST(TextStream, ReplacesWhatBecomesNoCharacter) {
  EXPECT_EQ(streamed("\x80"), (std::vector<std::string>{kReplacement, ""}));
  EXPECT_EQ(streamed("\xE2\x82"
                     "b"),
            (std::vector<std::string>{"", "", kReplacement + "b", ""}));
  EXPECT_EQ(streamed("a\xE2\x82"), (std::vector<std::string>{"a", "", "", kReplacement})) << "held back to the end";
}

TEST(TextStream, AnIdBeyondTheTokenizerIsNoText) {
  const Tokenizer tokenizer = byte_tokenizer();
  TextStream stream(tokenizer);
  EXPECT_EQ(stream.push(0xC3), "");
  EXPECT_EQ(stream.push(256), "");
  EXPECT_EQ(stream.push(0xA9), "é");
  EXPECT_EQ(stream.rest(), "");
}

TEST(AnswerText, LeavesOutTheTokenThatEndedIt) {
  const Tokenizer tokenizer = byte_tokenizer();
  GenerationOptions options;
  options.stop = {'.', 300};
  EXPECT_EQ(answer_text({'O', 'K', '.'}, options, tokenizer), "OK");
  EXPECT_EQ(answer_text({'O', 'K'}, options, tokenizer), "OK");
  EXPECT_EQ(answer_text({'O', 299, 'K', 300}, options, tokenizer), "OK") << "ids that the tokenizer lacks";
  EXPECT_EQ(answer_text({'a', 0xE2, 0x82}, options, tokenizer), "a" + kReplacement);
  EXPECT_EQ(answer_text({}, options, tokenizer), "");
}

TEST(PrintText, IsRawWhereStandardOutputIsNoTerminal) {
  testing::internal::CaptureStdout();
  print_text("\x1b[1mbold\n");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "\x1b[1mbold\n");
}

TEST(Speed, IsTokensOverSeconds) {
  Generated generated;
  generated.prompt_tokens = 37;
  generated.prefill_seconds = 0.125;
  generated.decoded_tokens = 24;
  generated.decode_seconds = 0.5;
  EXPECT_DOUBLE_EQ(decode_speed(generated), 48);
  EXPECT_EQ(speed_line(generated), "prefill: 37 tokens in 0.12 s (296.0 tokens/s); decode: 24 tokens at 48.0 tokens/s");
  generated.decode_seconds = 0;
  generated.decoded_tokens = 0;
  EXPECT_EQ(decode_speed(generated), 0) << "an answer of one token has no decode step";
}

TEST(GenerationOptions, TheModelsOwnStopTokensCountUnlessTheyAreIgnored) {
  AnswerOptions answer;
  answer.stop = {7};
  PublicTokens tokens;
  tokens.stop = {2, 3};
  EXPECT_EQ(generation_options(answer, {}, tokens, {}).stop, (Ids{7, 2, 3}));
  answer.ignore_eos = true;
  EXPECT_EQ(generation_options(answer, {}, tokens, {}).stop, Ids{7});
}

// Whatever the checkpoint's own stop tokens are.
TEST(GenerationOptions, TheEndOfAMessageEndsAnAnswerInAChat) {
  std::map<std::string, int64_t> ranks;
  for (int64_t byte = 0; byte < 256; ++byte) ranks[std::string(1, static_cast<char>(byte))] = byte;
  const Tokenizer tokenizer(ranks, {{"<|im_middle|>", 256}, {"<|im_end|>", 257}});
  AnswerOptions answer;
  PublicTokens tokens;
  EXPECT_EQ(generation_options(answer, {}, tokens, {}, &tokenizer).stop, Ids{257});
  tokens.stop = {2};
  EXPECT_EQ(generation_options(answer, {}, tokens, {}, &tokenizer).stop, (Ids{2, 257}));
  answer.ignore_eos = true;
  EXPECT_EQ(generation_options(answer, {}, tokens, {}, &tokenizer).stop, Ids{257});
}

TEST(GenerationOptions, TakesOverWhatWasAsked) {
  AnswerOptions answer;
  answer.max_new_tokens = 9;
  answer.sampling.temperature = 0.5;
  answer.sampling.top_k = 4;
  PublicModelOptions model;
  model.chunk = 128;
  Globals globals;
  EXPECT_EQ(generation_options(answer, model, {}, globals).sampling.seed, 0u);
  globals.seed = 11;
  const GenerationOptions options = generation_options(answer, model, {}, globals);
  EXPECT_EQ(options.max_new_tokens, 9);
  EXPECT_EQ(options.sampling.temperature, 0.5);
  EXPECT_EQ(options.sampling.top_k, 4);
  EXPECT_EQ(options.sampling.seed, 11u);
  EXPECT_EQ(options.chunk, 128);
}

TEST(GenerationOptions, RefusesSamplingThatMakesNoSense) {
  AnswerOptions answer;
  answer.sampling.temperature = -1;
  EXPECT_CONTAINS(message_of<UsageError>([&] { generation_options(answer, {}, {}, {}); }), "temperature");
}

TEST(OpenPublicModel, RefusesFoldersAndFlagsThatDoNotGoTogether) {
  const Folder folder;
  PublicModelOptions options;
  options.model = folder / "none";
  EXPECT_CONTAINS(message_of<UsageError>([&] { open_public_model(options, {}); }), options.model);
  options.model = folder.path();
  options.mmap = true;
  options.dtype = "int8";
  EXPECT_CONTAINS(message_of<UsageError>([&] { open_public_model(options, {}); }), "--dtype int8");
}

TEST(OpenTokenizer, IsThereWhereItsFileIs) {
  const Folder folder;
  EXPECT_FALSE(open_tokenizer(folder.path()));
  write_file(folder / "tiktoken.model", "no tokens");
  EXPECT_CONTAINS(failure_of([&] { open_tokenizer(folder.path()); }), "tiktoken.model");
}

TEST(RequireInput, NamesWhatIsMissing) {
  const Folder folder;
  write_file(folder / "file", "");
  require_input(folder.path());
  require_input(folder / "file");
  EXPECT_CONTAINS(message_of<UsageError>([&] { require_input(folder / "none"); }), folder / "none");
  EXPECT_THROW(require_input(folder / "file/below"), UsageError);
}

}  // namespace
}  // namespace klab
