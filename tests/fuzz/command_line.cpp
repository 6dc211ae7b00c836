// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/command_line.h"

#include <memory>

#include "experiments/command/public_model.h"
#include "experiments/command/token_input.h"
#include "experiments/run/run_config.h"
#include "fuzz/target.h"

namespace klab::fuzz {
namespace {

// The options that begin a run; the action makes its config, and runs nothing.
Command config_only() {
  return {"train", "", "", takes::threads | takes::seed | takes::ranks | takes::layout,
          [](CommandOptions& app, const Globals&) -> std::function<int()> {
            const auto flags = std::make_shared<std::vector<Assignment>>();
            add_run_flags(app, *flags);
            add_run_flags(app, *flags, "rl.");
            return [flags] { return static_cast<int>(make_run_config(*flags).vocabulary() > 0); };
          }};
}

// The options of commands on public checkpoints; the action parses their values, and loads nothing.
Command prompt_only() {
  struct Options {
    PublicModelOptions model;
    AnswerOptions answer;
    std::string tokens;
  };
  return {"generate", "", "", takes::threads | takes::device | takes::seed | takes::quiet,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            const auto options = std::make_shared<Options>();
            add_public_model_options(app, options->model);
            add_answer_options(app, options->answer);
            app.add_option("--tokens", options->tokens, "");
            return [options, &globals] {
              generation_options(options->answer, options->model, {}, globals);
              return static_cast<int>(parse_tokens(options->tokens).size());
            };
          }};
}

// An option of every other kind.
Command every_option() {
  struct Options {
    std::string place, word = "a";
    int64_t count = 1;
    double share = 0.5;
    std::vector<std::string> texts;
    std::vector<int64_t> counts;
    std::vector<double> numbers;
    bool flag = false;
  };
  return {"every", "", "", takes::out, [](CommandOptions& app, const Globals&) -> std::function<int()> {
            const auto options = std::make_shared<Options>();
            app.add_option("PLACE", options->place, "").required();
            app.add_option("--word", options->word, "").one_of({"a", "b"}).show_default();
            app.add_option("--count", options->count, "").positive().show_default();
            app.add_option("--share", options->share, "").between(0, 1);
            app.add_option("--text", options->texts, "").one_each();
            app.add_option("--counts", options->counts, "").comma_separated().not_negative();
            app.add_option("--numbers", options->numbers, "").comma_separated();
            app.add_flag("--flag", options->flag, "");
            app.add_renamed("--old", "--word");
            return [options] {
              expect(options->count > 0 && options->share >= 0 && options->share <= 1, "a value is out of its range");
              return 0;
            };
          }};
}

}  // namespace

// The words of a command line, one per line.
void command_line(std::string_view input) {
  // They may name files; those must be none of the system's.
  if (input.find('/') != std::string_view::npos) return;
  std::vector<std::string> words;
  while (!input.empty()) {
    const auto [word, rest] = halves(input, "\n");
    words.emplace_back(word);
    input = rest;
  }
  static const std::vector<Command> kCommands = {config_only(), prompt_only(), every_option()};
  Globals globals;
  const ParsedCommandLine parsed = parse_command_line(words, kCommands, globals);
  if (parsed.command != nullptr) parsed.action();
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(command_line)
