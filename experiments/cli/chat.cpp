// SPDX-License-Identifier: Apache-2.0
// klab chat: a conversation with a public Instruct checkpoint.
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/public/kimi_chat.h"
#include "experiments/command/message_reader.h"
#include "experiments/command/public_model.h"

namespace klab {
namespace {

struct ChatOptions {
  PublicModelOptions model;
  AnswerOptions answer;
  std::string system = kOwnSystem;
};

using Ids = std::vector<int64_t>;

// Keeps the model's state between turns, so that each turn processes only its new tokens.
class Conversation {
 public:
  Conversation(PublicModel& model, const Tokenizer& tokenizer, const ChatOptions& options, GenerationOptions how)
      : model_(model), tokenizer_(tokenizer), how_(std::move(how)) {
    unread_ = chat_start(tokenizer, options.system);
  }

  Generated turn(const std::string& content) {
    const Ids asked = chat_turn(tokenizer_, content);
    unread_.insert(unread_.end(), asked.begin(), asked.end());
    TextStream stream(tokenizer_);
    how_.on_token = [&](int64_t, int64_t token) {
      if (!stops(how_, token)) print_text(stream.push(token));
    };
    Generated generated = generate(model_.model, {unread_}, how_, past_ ? &*past_ : nullptr);
    print_text(stream.rest() + "\n");
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
                            generation_options(options.answer, options.model, loaded.tokens, globals, &*tokenizer));
  MessageReader reader;
  while (const std::optional<std::string> message = reader.next()) {
    const Generated generated = conversation.turn(*message);
    if (!globals.quiet) fmt::print(stderr, "{}\n", speed_line(generated));
    if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted; the answer ends here");
  }
  return 0;
}

}  // namespace

Command chat_command() {
  return {"chat", "a conversation with a public Instruct checkpoint; Ctrl-D or /quit ends it",
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
