// SPDX-License-Identifier: Apache-2.0
// klab generate: generates answers with a public checkpoint or a run's model.
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/public/kimi_chat.h"
#include "experiments/command/public_model.h"
#include "experiments/command/token_input.h"
#include "experiments/command/trained_model.h"

namespace klab {
namespace {

struct GenerateOptions {
  PublicModelOptions model;
  AnswerOptions answer;
  PromptInput prompts;
  TokenInput tokens;
  std::string system = kOwnSystem;
  bool chat = false, json = false;
};

using Ids = std::vector<int64_t>;

Ids chat_prompt(const Tokenizer& tokenizer, const GenerateOptions& options, const std::string& content) {
  Ids ids = chat_start(tokenizer, options.system);
  const Ids turn = chat_turn(tokenizer, content);
  ids.insert(ids.end(), turn.begin(), turn.end());
  return ids;
}

std::vector<Ids> prompts_of(const GenerateOptions& options, const std::optional<Tokenizer>& tokenizer) {
  if (options.prompts.empty() == options.tokens.empty()) {
    refuse("give either --prompt or --tokens, or a file with --prompt-file or --tokens-file");
  }
  if (!options.tokens.empty()) {
    if (options.chat) refuse("--chat needs --prompt or --prompt-file: the chat template is for text");
    return read_tokens(options.tokens);
  }
  if (!tokenizer) {
    refuse(
        "--prompt needs a tokenizer, but '{}' has none: no tiktoken.model or tokenizer.json, and no run on the tasks "
        "text or jsonl; give token ids with --tokens",
        options.model.model);
  }
  const std::optional<int64_t> start = document_start(options.model.model);
  std::vector<Ids> all;
  for (const std::string& prompt : read_prompts(options.prompts)) {
    Ids ids = options.chat ? chat_prompt(*tokenizer, options, prompt) : tokenizer->encode(prompt);
    if (start) ids.insert(ids.begin(), *start);  // as in training
    if (ids.empty()) refuse("prompt {} is empty", all.size() + 1);
    all.push_back(std::move(ids));
  }
  return all;
}

void print_answers_json(const Generated& generated, const GenerationOptions& how,
                        const std::optional<Tokenizer>& tokenizer) {
  nlohmann::ordered_json json = {{"tokens", generated.tokens}, {"text", nullptr}};
  if (tokenizer) {
    std::vector<std::string> texts;
    for (const Ids& answer : generated.tokens) texts.push_back(answer_text(answer, how, *tokenizer));
    if (texts.size() == 1) {
      json["text"] = texts.front();
    } else {
      json["text"] = texts;
    }
  }
  json["prompt_tokens"] = generated.prompt_tokens;
  json["prefill_seconds"] = generated.prefill_seconds;
  json["decode_tokens_per_second"] = decode_speed(generated);
  print_text(json.dump() + "\n");
}

void print_answers(const Generated& generated, const GenerationOptions& how,
                   const std::optional<Tokenizer>& tokenizer) {
  for (size_t i = 0; i < generated.tokens.size(); ++i) {
    if (generated.tokens.size() > 1 && tokenizer) fmt::print("--- {}\n", i + 1);
    if (tokenizer) {
      print_text(answer_text(generated.tokens[i], how, *tokenizer) + "\n");
    } else {
      fmt::print("{}\n", fmt::join(generated.tokens[i], ","));
    }
  }
}

int generate(const GenerateOptions& options, const Globals& globals) {
  require_input(options.model.model);
  const std::optional<Tokenizer> tokenizer = open_tokenizer(options.model.model);
  const std::vector<Ids> prompts = prompts_of(options, tokenizer);
  PublicModel loaded = open_public_model(options.model, globals);
  if (tokenizer) tokenizer->require_vocabulary(loaded.model->vocabulary());
  GenerationOptions how =
      generation_options(options.answer, options.model, loaded.tokens, globals, options.chat ? &*tokenizer : nullptr);
  const bool streams = !options.json && tokenizer && prompts.size() == 1;
  std::optional<TextStream> stream;
  if (streams) {
    stream.emplace(*tokenizer);
    how.on_token = [&](int64_t, int64_t token) {
      if (!stops(how, token)) print_text(stream->push(token));
    };
  }
  const Generated generated = generate(loaded.model, prompts, how);
  if (options.json) {
    print_answers_json(generated, how, tokenizer);
  } else if (streams) {
    print_text(stream->rest() + "\n");
  } else {
    print_answers(generated, how, tokenizer);
  }
  std::fflush(stdout);
  if (!globals.quiet) fmt::print(stderr, "{}\n", speed_line(generated));
  if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted; the answer ends here");
  return 0;
}

}  // namespace

Command generate_command() {
  return {"generate", "generate answers to prompts with a public checkpoint or a trained run",
          "./klab generate --model Kimi-Linear-48B-A3B-Instruct --chat --prompt \"Is 123 a prime?\"",
          takes::threads | takes::device | takes::seed | takes::quiet,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<GenerateOptions>();
            add_public_model_options(app, options->model);
            add_answer_options(app, options->answer);
            add_prompt_options(app, options->prompts);
            add_token_options(app, options->tokens);
            app.add_flag("--chat", options->chat, "use the prompt as a user message in the chat template");
            app.add_option("--system", options->system,
                           "system message of --chat; auto: the template's own; empty: none")
                .show_default();
            app.add_flag("--json", options->json, "print tokens, text and speed as one JSON object");
            return [options, &globals] { return generate(*options, globals); };
          }};
}

}  // namespace klab
