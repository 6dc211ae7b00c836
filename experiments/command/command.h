// SPDX-License-Identifier: Apache-2.0
// The interface of klab's subcommands.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/parallel/rank_layout.h"
#include "experiments/command/command_options.h"

namespace klab {

/// Bits for the global options: each subcommand declares those that it accepts; others are rejected.
namespace takes {
constexpr unsigned threads = 1, device = 2, seed = 4, out = 8, quiet = 16, ranks = 32, layout = 64, checkpoints = 128;
constexpr unsigned nothing = 0;
}  // namespace takes

/// The values of the global options.
struct Globals {
  int threads = 0;  ///< 0: torch's default
  std::string device = "cpu";
  std::optional<int64_t> seed;
  std::string out;
  bool quiet = false;
  int64_t processes = 0;           ///< 0: the environment says which of how many ranks this is, see rank_environment()
  RankLayout layout{};             ///< how ranks share the work; without their number
  int64_t rank_limit = 600;        ///< seconds that a rank waits for another
  std::string command_line;        ///< quoted for a shell, for the headers of results
  std::vector<std::string> words;  ///< the command line's words after the program
};

struct Command {
  std::string name;
  std::string summary;
  std::string example;
  unsigned globals = takes::nothing;  ///< accepted global options
  /// Adds the command's own options to `app` and returns a function that runs the command and returns its exit code.
  std::function<std::function<int()>(CommandOptions& app, const Globals& globals)> set_up;
};

// Most are in the file of the same name in experiments/cli/; main.cpp lists them.
Command bench_command();
Command capacity_command();
Command chat_command();
Command check_command();
Command compare_command();
Command demo_command();
Command export_command();
Command generate_command();
Command inspect_command();
Command logits_command();
Command model_command();
Command plot_command();
Command reproduce_command();
Command resume_command();
Command rl_command();
Command sweep_command();
Command study_command();
Command verify_command();
Command sweep_worker_command();
Command tasks_command();
Command train_command();

/// Throws UsageError unless the file or folder exists: a wrong path on the command line is bad usage.
void require_input(const std::string& path);

/// Adds every key of a run config to `app` as a flag of the same dotted name; flags on the command line are appended to
/// `assignments`; the keys of reinforcement learning only with their `prefix`. With `prefix` ("task.") only keys that
/// begin with it.
void add_run_flags(CommandOptions& app, std::vector<Assignment>& assignments);
void add_run_flags(CommandOptions& app, std::vector<Assignment>& assignments, const std::string& prefix);

}  // namespace klab
