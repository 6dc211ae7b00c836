// The klab program: picks the subcommand, and turns errors into messages and exit codes.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/text.h"
#include "core/base/version.h"
#include "experiments/command/command.h"
#include "core/base/memory.h"

namespace klab {
namespace {

constexpr int kFailed = 1, kBadUsage = 2, kSignalled = 128;

std::vector<Command> commands() {
  return {demo_command(),    train_command(),    resume_command(),  sweep_command(),    sweep_worker_command(),
          compare_command(), capacity_command(), inspect_command(), plot_command(),     reproduce_command(),
          tasks_command(),   model_command(),    logits_command(),  generate_command(), chat_command(),
          export_command(),  check_command(),    bench_command()};
}

std::string command_line(int argc, char** argv) {
  std::vector<std::string> words{"./klab"};
  for (int i = 1; i < argc; ++i) words.emplace_back(argv[i]);
  return join(words, " ");
}

void add_globals(CLI::App& app, Globals& globals) {
  app.add_option("--threads", globals.threads, "CPU threads (default: all cores)")->check(CLI::Range(1, 1024));
  app.add_option("--device", globals.device, "cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--seed", globals.seed, "seed of parameters and data (train.seed)")->check(CLI::NonNegativeNumber);
  app.add_option("--out", globals.out, "folder or file for what the command makes");
  app.add_flag("--quiet", globals.quiet, "no progress");
}

// "unknown option" in the words of the rest of the program.
std::string unknown_option(const CLI::App& app, const CLI::ExtrasError& error) {
  std::vector<std::string> known;
  const auto collect = [&](const CLI::App& from) {
    for (const CLI::Option* option : from.get_options()) known.push_back(option->get_name());
  };
  collect(app);
  for (const CLI::App* sub : app.get_subcommands()) collect(*sub);
  const std::string message = error.what();  // "The following arguments were not expected: --a b"
  std::string first = message.substr(message.find(": ") + 2);
  first = first.substr(0, first.find_first_of(" =\n"));
  if (first.rfind("--", 0) != 0) return fmt::format("unexpected argument '{}'; see --help", first);
  return fmt::format("unknown option '{}'{}", first, did_you_mean(first, known));
}

int parse_error(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
  if (const auto* extras = dynamic_cast<const CLI::ExtrasError*>(&error)) {
    fmt::print(stderr, "klab: {}\n", unknown_option(app, *extras));
  } else {
    fmt::print(stderr, "klab: {}; see --help\n", error.what());
  }
  return kBadUsage;
}

int run(int argc, char** argv) {
  CLI::App app("klab, the Kimi Linear lab: train, compare and check token mixers", "klab");
  Globals globals;
  globals.command_line = command_line(argc, argv);
  add_globals(app, globals);
  app.set_version_flag("--version", fmt::format("klab {} ({})", version(), commit()));
  app.require_subcommand(1);
  app.footer("./klab test runs every test, ./klab build only builds. ./klab COMMAND --help has an example for each.");
  std::function<int()> action;
  for (const Command& command : commands()) {
    CLI::App* sub = app.add_subcommand(command.name, command.summary)->fallthrough();
    sub->footer("Example:\n  " + command.example);
    CommandOptions options(*sub);
    const std::function<int()> body = command.set_up(options, globals);
    sub->callback([&action, body] { action = body; });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return parse_error(app, error);
  }
  if (globals.threads > 0) at::set_num_threads(globals.threads);
  catch_interrupts();
  return action();
}

}  // namespace
}  // namespace klab

int main(int argc, char** argv) {
  klab::keep_freed_memory();
  try {
    return klab::run(argc, argv);
  } catch (const klab::Interrupted& error) {
    fmt::print(stderr, "klab: {}\n", error.what());
    return klab::kSignalled + error.signal;
  } catch (const klab::UsageError& error) {
    fmt::print(stderr, "klab: {}\n", error.what());
    return klab::kBadUsage;
  } catch (const c10::Error& error) {
    fmt::print(stderr, "klab: {}\n", error.what_without_backtrace());
    return klab::kFailed;
  } catch (const std::exception& error) {
    fmt::print(stderr, "klab: {}\n", error.what());
    return klab::kFailed;
  }
}
