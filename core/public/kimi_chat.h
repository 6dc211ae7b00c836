// SPDX-License-Identifier: Apache-2.0
// The chat templates of the Instruct models. The special tokens of the tokenizer tell which it is:
//
// - Kimi, with <|im_middle|>: <|im_user|>user<|im_middle|>content<|im_end|>, with <|im_assistant|> for the role
//   assistant and <|im_system|> for system and all others.
// - ChatML of the Qwen models, with <|im_start|>: <|im_start|>user, a line end, content<|im_end|>, a line end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/public/tokenizer.h"

namespace klab {

/// Stands for the template's own system message.
inline constexpr const char* kOwnSystem = "auto";

/// Throws Error with the names looked for if the tokenizer has the special tokens of neither template; so do all below.
void check_chat(const Tokenizer& tokenizer);

/// The system message; none if `system` is empty, and for kOwnSystem that of the template: Kimi's has one, ChatML none.
std::vector<int64_t> chat_start(const Tokenizer& tokenizer, const std::string& system);

/// One message as token ids. Names of special and other added tokens in the content are text, so that a message cannot
/// end itself and begin another, or pretend to be a tool.
std::vector<int64_t> chat_message(const Tokenizer& tokenizer, const std::string& role, const std::string& content);

/// The tokens that start the model's answer: those of a message of the assistant before its content.
std::vector<int64_t> chat_answer(const Tokenizer& tokenizer);

/// A message of the user, and the tokens that start the model's answer.
std::vector<int64_t> chat_turn(const Tokenizer& tokenizer, const std::string& content);

/// The token that ends a message: an answer ends with it, whatever stop tokens the checkpoint's files name.
int64_t chat_end(const Tokenizer& tokenizer);

/// The tokens after that, before the next message.
std::vector<int64_t> chat_between(const Tokenizer& tokenizer);

}  // namespace klab
