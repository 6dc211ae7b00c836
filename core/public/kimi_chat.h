// SPDX-License-Identifier: Apache-2.0
// The chat template of the Instruct models.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/public/tokenizer.h"

namespace klab {

/// The default system message of the published template.
inline constexpr const char* kDefaultSystem = "You are Kimi, an AI assistant created by Moonshot AI.";

/// One message as token ids:
///     <|im_user|>user<|im_middle|>content<|im_end|>
/// with <|im_assistant|> for the role assistant and <|im_system|> for system and all others. Names of special tokens
/// in the content are treated as text, so that a message cannot end itself and begin another. Throws Error if the
/// tokenizer lacks one of the special tokens.
std::vector<int64_t> chat_message(const Tokenizer& tokenizer, const std::string& role, const std::string& content);

/// The tokens that start the model's answer: <|im_assistant|>assistant<|im_middle|>.
std::vector<int64_t> chat_answer(const Tokenizer& tokenizer);

/// The token that ends a message.
int64_t chat_end(const Tokenizer& tokenizer);

}  // namespace klab
