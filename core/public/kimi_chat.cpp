// SPDX-License-Identifier: Apache-2.0
#include "core/public/kimi_chat.h"

namespace klab {
namespace {

using Ids = std::vector<int64_t>;

void append(Ids& to, const Ids& ids) { to.insert(to.end(), ids.begin(), ids.end()); }

// The tokens of a message before its content.
Ids opening(const Tokenizer& tokenizer, const std::string& role) {
  const bool own = role == "user" || role == "assistant";
  Ids ids = {tokenizer.special("<|im_" + (own ? role : "system") + "|>")};
  append(ids, tokenizer.encode(role, /*special=*/false));
  ids.push_back(tokenizer.special("<|im_middle|>"));
  return ids;
}

}  // namespace

Ids chat_message(const Tokenizer& tokenizer, const std::string& role, const std::string& content) {
  Ids ids = opening(tokenizer, role);
  append(ids, tokenizer.encode(content, /*special=*/false));
  ids.push_back(chat_end(tokenizer));
  return ids;
}

Ids chat_answer(const Tokenizer& tokenizer) { return opening(tokenizer, "assistant"); }

int64_t chat_end(const Tokenizer& tokenizer) { return tokenizer.special("<|im_end|>"); }

}  // namespace klab
