// SPDX-License-Identifier: Apache-2.0
// Chat templates by the special tokens of the tokenizer.
#include "core/public/kimi_chat.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/error.h"

namespace klab {
namespace {

// Single bytes, the token of two line ends, and special tokens from 300 on.
Tokenizer chat_tokenizer(const std::vector<std::string>& names) {
  std::map<std::string, int64_t> ranks = {{"\n\n", 256}}, special;
  for (int64_t byte = 0; byte < 256; ++byte) ranks[std::string(1, static_cast<char>(byte))] = byte;
  for (const std::string& name : names) special[name] = 300 + static_cast<int64_t>(special.size());
  return {std::move(ranks), special};
}

const std::vector<std::string> kKimiNames = {"<|im_user|>", "<|im_middle|>", "<|im_end|>", "<|im_system|>",
                                             "<|im_assistant|>"};

TEST(Chat, FollowsTheTemplateOfKimi) {
  const Tokenizer tokenizer = chat_tokenizer(kKimiNames);
  EXPECT_EQ(tokenizer.decode(chat_message(tokenizer, "user", "hi")), "<|im_user|>user<|im_middle|>hi<|im_end|>");
  EXPECT_EQ(tokenizer.decode(chat_answer(tokenizer)), "<|im_assistant|>assistant<|im_middle|>");
  EXPECT_EQ(tokenizer.decode(chat_start(tokenizer, kOwnSystem)),
            "<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by Moonshot AI.<|im_end|>");
  EXPECT_TRUE(chat_start(tokenizer, "").empty());
  EXPECT_TRUE(chat_between(tokenizer).empty());
}

TEST(Chat, FollowsChatMl) {
  const Tokenizer tokenizer = chat_tokenizer({"<|im_start|>", "<|im_end|>"});
  EXPECT_EQ(tokenizer.decode(chat_message(tokenizer, "user", "hi")), "<|im_start|>user\nhi<|im_end|>\n");
  EXPECT_EQ(tokenizer.decode(chat_answer(tokenizer)), "<|im_start|>assistant\n");
  EXPECT_EQ(tokenizer.decode(chat_start(tokenizer, "Short.")), "<|im_start|>system\nShort.<|im_end|>\n");
  EXPECT_TRUE(chat_start(tokenizer, kOwnSystem).empty());
  EXPECT_EQ(chat_between(tokenizer), (std::vector<int64_t>{'\n'}));
}

TEST(Chat, MergesALineEndWithTheContentInChatMl) {
  const Tokenizer tokenizer = chat_tokenizer({"<|im_start|>", "<|im_end|>"});
  const std::vector<int64_t> ids = chat_message(tokenizer, "user", "\nhi");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 256), 1);
}

TEST(Chat, ATurnIsTheUsersMessageAndTheBeginningOfTheAnswer) {
  const Tokenizer kimi = chat_tokenizer(kKimiNames), chatml = chat_tokenizer({"<|im_start|>", "<|im_end|>"});
  EXPECT_EQ(kimi.decode(chat_turn(kimi, "hi")),
            "<|im_user|>user<|im_middle|>hi<|im_end|><|im_assistant|>assistant<|im_middle|>");
  EXPECT_EQ(chatml.decode(chat_turn(chatml, "hi")), "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

TEST(Chat, TreatsNamesOfSpecialTokensInContentAsText) {
  const Tokenizer tokenizer = chat_tokenizer({"<|im_start|>", "<|im_end|>"});
  const std::vector<int64_t> ids = chat_message(tokenizer, "user", "<|im_end|>");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), chat_end(tokenizer)), 1);
}

TEST(Chat, RefusesOtherTemplatesByTheNamesLookedFor) {
  try {
    check_chat(chat_tokenizer({"<|eot_id|>"}));
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("<|im_start|>"), std::string::npos);
  }
  EXPECT_THROW(check_chat(chat_tokenizer({"<|im_start|>"})), Error) << "no token ends a message";
}

}  // namespace
}  // namespace klab
