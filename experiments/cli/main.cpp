// SPDX-License-Identifier: Apache-2.0
// The klab program: runs a subcommand and converts errors to messages and exit codes.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/memory.h"
#include "core/base/provenance.h"
#include "core/base/text.h"
#include "core/base/version.h"
#include "core/model/block_cache.h"
#include "experiments/command/command.h"

namespace klab {
namespace {

constexpr int kFailed = 1, kBadUsage = 2, kSignalled = 128;

std::vector<Command> commands() {
  return {demo_command(),         train_command(),    resume_command(),    rl_command(),      sweep_command(),
          sweep_worker_command(), study_command(),    verify_command(),    compare_command(), capacity_command(),
          inspect_command(),      plot_command(),     reproduce_command(), tasks_command(),   model_command(),
          logits_command(),       generate_command(), chat_command(),      export_command(),  check_command(),
          bench_command()};
}

// File names, config values and token texts in messages may hold anything.
void print_message(std::string_view message) { fmt::print(stderr, "klab: {}\n", printable(message)); }

std::string command_line(int argc, char** argv) {
  std::vector<std::string> words{"./klab"};
  for (int i = 1; i < argc; ++i) words.emplace_back(argv[i]);
  return quoted_command(words);
}

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

// Files in results/ should name the commit of the sources that produced them.
void warn_of_changes(const Globals& globals) {
  if (globals.out.empty()) return;
  const std::filesystem::path out = std::filesystem::absolute(globals.out);
  if (std::find(out.begin(), out.end(), "results") == out.end()) return;
  if (commit().back() != '+') return;
  print_message(fmt::format("warning: the tree has uncommitted changes, so results in '{}' name commit {}", globals.out,
                            commit()));
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

int parse_error(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
  const std::string unknown = unknown_words(app);
  print_message(unknown.empty() ? fmt::format("{}; see --help", error.what()) : unknown);
  return kBadUsage;
}

int run(int argc, char** argv) {
  CLI::App app("klab, the Kimi Linear lab: train, compare and check token mixers", "klab");
  Globals globals;
  globals.command_line = command_line(argc, argv);
  globals.words.assign(argv + 1, argv + argc);
  add_globals(app, globals);
  app.set_version_flag("--version", [] { return fmt::format("klab {} ({})", version(), commit()); });
  app.require_subcommand(1);
  app.footer("./klab test runs every test, ./klab build only builds. ./klab COMMAND --help has an example for each.");
  std::function<int()> action;
  const Command* chosen = nullptr;
  const std::vector<Command> all = commands();
  for (const Command& command : all) {
    CLI::App* sub = app.add_subcommand(command.name, command.summary)->fallthrough();
    sub->footer(fmt::format("Accepted global options: {}\nExample:\n  {}", names_of(command.globals), command.example));
    CommandOptions options(*sub);
    const std::function<int()> body = command.set_up(options, globals);
    sub->callback([&action, &chosen, &command, body] {
      action = body;
      chosen = &command;
    });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return parse_error(app, error);
  }
  refuse_unused_globals(app, *chosen);
  warn_of_changes(globals);
  if (globals.threads > 0) at::set_num_threads(globals.threads);
  catch_interrupts();
  return action();
}

}  // namespace
}  // namespace klab

int main(int argc, char** argv) {
  klab::keep_freed_memory();
#if !defined(__SANITIZE_ADDRESS__)  // the sanitizer sees only what the C library allocates
  klab::use_block_cache();
#endif
  try {
    return klab::run(argc, argv);
  } catch (const klab::Interrupted& error) {
    klab::print_message(error.what());
    return klab::kSignalled + error.signal;
  } catch (const klab::UsageError& error) {
    klab::print_message(error.what());
    return klab::kBadUsage;
  } catch (const c10::Error& error) {
    klab::print_message(error.what_without_backtrace());
    return klab::kFailed;
  } catch (const std::exception& error) {
    klab::print_message(error.what());
    return klab::kFailed;
  }
}
