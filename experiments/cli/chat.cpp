// SPDX-License-Identifier: Apache-2.0
// klab chat: a conversation with a public Instruct checkpoint.
#include <fmt/format.h>
#include <unistd.h>

#include <iostream>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/text.h"
#include "core/public/kimi_chat.h"
#include "experiments/command/public_model.h"

namespace klab {
namespace {

struct ChatOptions {
  PublicModelOptions model;
  AnswerOptions answer;
  std::string system = kOwnSystem;
};

using Ids = std::vector<int64_t>;

// Reads one line from standard input; false at its end.
bool read_line(bool terminal, std::string& line) {
  if (terminal) {
    fmt::print(stderr, "> ");
    std::fflush(stderr);
  }
  return static_cast<bool>(std::getline(std::cin, line));
}

// Keeps the model's state between turns, so that each turn processes only its new tokens.
class Conversation {
 public:
  Conversation(PublicModel& model, const Tokenizer& tokenizer, const ChatOptions& options, GenerationOptions how)
      : model_(model), tokenizer_(tokenizer), how_(std::move(how)) {
    how_.stop.push_back(chat_end(tokenizer));
    unread_ = chat_start(tokenizer, options.system);
  }

  Generated turn(const std::string& content) {
    for (const Ids& part : {chat_message(tokenizer_, "user", content), chat_answer(tokenizer_)}) {
      unread_.insert(unread_.end(), part.begin(), part.end());
    }
    TextStream stream(tokenizer_);
    how_.on_token = [&](int64_t, int64_t token) {
      if (stops(token)) return;
      fmt::print("{}", stream.push(token));
      std::fflush(stdout);
    };
    Generated generated = generate(model_.model, {unread_}, how_, past_ ? &*past_ : nullptr);
    fmt::print("{}\n", stream.rest());
    past_ = std::move(generated.state);
    // The state does not include the last token of the answer yet, and every message must end with the end token.
    const Ids& answer = generated.tokens.front();
    unread_ = answer.empty() ? Ids{} : Ids{answer.back()};
    if (answer.empty() || answer.back() != chat_end(tokenizer_)) unread_.push_back(chat_end(tokenizer_));
    const Ids between = chat_between(tokenizer_);
    unread_.insert(unread_.end(), between.begin(), between.end());
    return generated;
  }

 private:
  bool stops(int64_t token) const { return std::find(how_.stop.begin(), how_.stop.end(), token) != how_.stop.end(); }

  PublicModel& model_;
  const Tokenizer& tokenizer_;
  GenerationOptions how_;
  std::optional<State> past_;
  Ids unread_;
};

int chat(const ChatOptions& options, const Globals& globals) {
  require_input(options.model.model);
  const std::optional<Tokenizer> tokenizer = open_tokenizer(options.model.model);
  if (!tokenizer) {
    refuse("klab chat needs a tokenizer, but '{}' has no tiktoken.model or tokenizer.json", options.model.model);
  }
  check_chat(*tokenizer);
  PublicModel loaded = open_public_model(options.model, globals);
  tokenizer->require_vocabulary(loaded.model->vocabulary());
  Conversation conversation(loaded, *tokenizer, options,
                            generation_options(options.answer, options.model, loaded.tokens, globals));
  const bool terminal = ::isatty(STDIN_FILENO) == 1;
  if (terminal) fmt::print(stderr, "Each line is a message; an empty line or Ctrl-D ends the conversation.\n");
  std::string line;
  while (read_line(terminal, line) && !trimmed(line).empty()) {
    const Generated generated = conversation.turn(line);
    if (!globals.quiet) fmt::print(stderr, "{}\n", speed_line(generated));
    if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted; the answer ends here");
  }
  return 0;
}

}  // namespace

Command chat_command() {
  return {"chat", "a conversation with a public Kimi Linear Instruct checkpoint",
          "./klab chat --model Kimi-Linear-48B-A3B-Instruct --temperature 0.6",
          takes::threads | takes::device | takes::seed | takes::quiet,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<ChatOptions>();
            options->answer.max_new_tokens = 2048;
            add_public_model_options(app, options->model);
            add_answer_options(app, options->answer);
            app.add_option("--system", options->system, "system message; auto: the template's own; empty: none")
                .show_default();
            return [options, &globals] { return chat(*options, globals); };
          }};
}

}  // namespace klab
