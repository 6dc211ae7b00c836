// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <sstream>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/version.h"

namespace klab {
namespace {

struct GlobalOption {
  const char* name;
  unsigned bit;
};

constexpr GlobalOption kGlobalOptions[] = {{"--threads", takes::threads}, {"--device", takes::device},
                                           {"--seed", takes::seed},       {"--out", takes::out},
                                           {"--quiet", takes::quiet},     {"--processes", takes::ranks},
                                           {"--cp", takes::layout},       {"--ep", takes::layout},
                                           {"--zero", takes::layout},     {"--shard-checkpoints", takes::checkpoints},
                                           {"--rank-limit", takes::ranks}};

void add_globals(CLI::App& app, Globals& globals) {
  app.add_option("--threads", globals.threads, "CPU threads (default: all cores)")->check(CLI::Range(1, 1024));
  app.add_option("--device", globals.device, "cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--seed", globals.seed, "seed of parameters and data (train.seed)")->check(CLI::NonNegativeNumber);
  app.add_option("--out", globals.out, "output folder or file");
  app.add_flag("--quiet", globals.quiet, "no progress");
  app.add_option("--processes", globals.processes,
                 "train with N processes on this machine; torchrun, srun and mpirun start them on several")
      ->check(CLI::Range(1, 1024));
  app.add_option("--cp", globals.layout.context,
                 "with several processes: N of them share each sequence (context parallelism)")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--ep", globals.layout.experts,
                 "with several processes: N of them share the experts (expert parallelism)")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_flag("--zero", globals.layout.zero,
               "with several processes: each has a part of the optimiser's state (ZeRO-1)");
  app.add_flag("--shard-checkpoints", globals.layout.shard_checkpoints,
               "with several processes: each writes a part of the checkpoints, instead of all through one");
  app.add_option("--rank-limit", globals.rank_limit, "with several processes: seconds that one waits for another")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
}

// The accepted global options of a command, for its help and for errors.
std::string names_of(unsigned options) {
  std::vector<std::string> names;
  for (const GlobalOption& one : kGlobalOptions) {
    if (options & one.bit) names.emplace_back(one.name);
  }
  return names.empty() ? "none" : join(names);
}

void refuse_unused_globals(const CLI::App& app, const Command& command) {
  for (const GlobalOption& one : kGlobalOptions) {
    if (app.count(one.name) == 0 || (command.globals & one.bit)) continue;
    refuse("{} does not accept {}; accepted global options: {}", command.name, one.name, names_of(command.globals));
  }
}

std::vector<std::string> known_options(const CLI::App& app) {
  std::vector<std::string> known;
  const auto collect = [&](const CLI::App& from) {
    for (const CLI::Option* option : from.get_options()) {
      if (!option->get_group().empty()) known.push_back(option->get_name());
    }
  };
  collect(app);
  for (const CLI::App* sub : app.get_subcommands()) collect(*sub);
  return known;
}

// The error for words that were not parsed, or "". A word after an unknown option may be its value, so the option is
// reported first.
std::string unknown_words(const CLI::App& app) {
  const std::vector<std::string> words = app.remaining(true);
  if (words.empty()) return "";
  const auto option = std::find_if(words.begin(), words.end(),
                                   [](const std::string& word) { return word.size() > 1 && word[0] == '-'; });
  const bool has_command = !app.get_subcommands().empty();
  if (option != words.end() && (has_command || option == words.begin())) {
    const std::string name = option->substr(0, option->find('='));
    return fmt::format("unknown option '{}'{}", name, did_you_mean(name, known_options(app)));
  }
  if (has_command) return fmt::format("unexpected argument '{}'; see --help", words.front());
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App* one) { return !one->get_group().empty(); })) {
    names.push_back(sub->get_name());
  }
  const std::string hint = did_you_mean(words.front(), names);
  return fmt::format("unknown command '{}'{}", words.front(), hint.empty() ? "; see --help" : hint);
}

// The text of --help or --version, which CLI11 reports as an error of code 0; an error of the user is refused.
std::string requested_text(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) {
    std::ostringstream text;
    app.exit(error, text, text);
    return text.str();
  }
  const std::string unknown = unknown_words(app);
  if (unknown.empty()) refuse("{}; see --help", error.what());
  refuse("{}", unknown);
}

}  // namespace

ParsedCommandLine parse_command_line(const std::vector<std::string>& words, const std::vector<Command>& commands,
                                     Globals& globals) {
  CLI::App app("klab, the Kimi Linear lab: train, compare and check token mixers", "klab");
  add_globals(app, globals);
  app.set_version_flag("--version", [] { return fmt::format("klab {} ({})", version(), commit()); });
  app.require_subcommand(1);
  app.footer("./klab test runs every test, ./klab build only builds. ./klab COMMAND --help has an example for each.");
  ParsedCommandLine parsed;
  for (const Command& command : commands) {
    CLI::App* sub = app.add_subcommand(command.name, command.summary)->fallthrough();
    sub->footer(fmt::format("Accepted global options: {}\nExample:\n  {}", names_of(command.globals), command.example));
    CommandOptions options(*sub);
    const std::function<int()> body = command.set_up(options, globals);
    sub->callback([&parsed, &command, body] { parsed = {&command, body}; });
  }
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));  // CLI11 takes the last word first
  } catch (const CLI::ParseError& error) {
    return {nullptr, [text = requested_text(app, error)] {
              fmt::print("{}", text);
              return 0;
            }};
  }
  refuse_unused_globals(app, *parsed.command);
  return parsed;
}

}  // namespace klab
