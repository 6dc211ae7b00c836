// SPDX-License-Identifier: Apache-2.0
// The klab program: runs a subcommand and converts errors to messages and exit codes.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/memory.h"
#include "core/base/message.h"
#include "core/base/provenance.h"
#include "core/base/text.h"
#include "core/base/version.h"
#include "core/model/block_cache.h"
#include "experiments/command/command_line.h"

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

std::string command_line(int argc, char** argv) {
  std::vector<std::string> words{"./klab"};
  for (int i = 1; i < argc; ++i) words.emplace_back(argv[i]);
  return quoted_command(words);
}

// Files in results/ should name the commit of the sources that produced them.
void warn_of_changes(const Globals& globals) {
  if (globals.out.empty()) return;
  const std::filesystem::path out = std::filesystem::absolute(globals.out);
  if (std::find(out.begin(), out.end(), "results") == out.end()) return;
  if (commit().back() != '+') return;
  print_message("klab: warning: the tree has uncommitted changes, so results in '{}' name commit {}", globals.out,
                commit());
}

int run(int argc, char** argv) {
  Globals globals;
  globals.command_line = command_line(argc, argv);
  globals.words.assign(argv + 1, argv + argc);
  const std::vector<Command> all = commands();
  const ParsedCommandLine parsed = parse_command_line(globals.words, all, globals);
  if (parsed.command != nullptr) {
    warn_of_changes(globals);
    if (globals.threads > 0) at::set_num_threads(globals.threads);
    catch_interrupts();
  }
  return parsed.action();
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
    klab::print_message("klab: {}", error.what());
    return klab::kSignalled + error.signal;
  } catch (const klab::UsageError& error) {
    klab::print_message("klab: {}", error.what());
    return klab::kBadUsage;
  } catch (const c10::Error& error) {
    klab::print_message("klab: {}", error.what_without_backtrace());
    return klab::kFailed;
  } catch (const std::exception& error) {
    klab::print_message("klab: {}", error.what());
    return klab::kFailed;
  }
}
