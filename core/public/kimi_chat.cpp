// SPDX-License-Identifier: Apache-2.0
#include "core/public/kimi_chat.h"

#include "core/base/error.h"

namespace klab {
namespace {

using Ids = std::vector<int64_t>;

constexpr const char* kKimiSystem = "You are Kimi, an AI assistant created by Moonshot AI.";

void append(Ids& to, const Ids& ids) { to.insert(to.end(), ids.begin(), ids.end()); }

bool is_chatml(const Tokenizer& tokenizer) {
  if (tokenizer.has_special("<|im_middle|>")) return false;
  if (tokenizer.has_special("<|im_start|>")) return true;
  fail(
      "the tokenizer has neither the special token <|im_middle|> of Kimi's chat template nor <|im_start|> of ChatML: "
      "klab knows no other template");
}

// The tokens of a message up to its content. In ChatML the line end before the content may merge with it.
Ids beginning(const Tokenizer& tokenizer, const std::string& role, const std::string& content) {
  if (is_chatml(tokenizer)) {
    Ids ids = {tokenizer.special("<|im_start|>")};
    append(ids, tokenizer.encode_plain(role + "\n" + content));
    return ids;
  }
  const bool own = role == "user" || role == "assistant";
  Ids ids = {tokenizer.special("<|im_" + (own ? role : "system") + "|>")};
  append(ids, tokenizer.encode_plain(role));
  ids.push_back(tokenizer.special("<|im_middle|>"));
  append(ids, tokenizer.encode_plain(content));
  return ids;
}

}  // namespace

void check_chat(const Tokenizer& tokenizer) {
  is_chatml(tokenizer);
  chat_end(tokenizer);
}

Ids chat_start(const Tokenizer& tokenizer, const std::string& system) {
  const bool own = system == kOwnSystem;
  if (system.empty() || (own && is_chatml(tokenizer))) return {};
  return chat_message(tokenizer, "system", own ? kKimiSystem : system);
}

Ids chat_message(const Tokenizer& tokenizer, const std::string& role, const std::string& content) {
  Ids ids = beginning(tokenizer, role, content);
  ids.push_back(chat_end(tokenizer));
  append(ids, chat_between(tokenizer));
  return ids;
}

Ids chat_turn(const Tokenizer& tokenizer, const std::string& content) {
  Ids ids = chat_message(tokenizer, "user", content);
  append(ids, chat_answer(tokenizer));
  return ids;
}

Ids chat_answer(const Tokenizer& tokenizer) { return beginning(tokenizer, "assistant", ""); }

int64_t chat_end(const Tokenizer& tokenizer) { return tokenizer.special("<|im_end|>"); }

Ids chat_between(const Tokenizer& tokenizer) { return is_chatml(tokenizer) ? tokenizer.encode_plain("\n") : Ids{}; }

}  // namespace klab
