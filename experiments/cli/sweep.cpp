// SPDX-License-Identifier: Apache-2.0
// klab sweep: many runs from one file.
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/base/message.h"
#include "core/base/text.h"
#include "experiments/command/command.h"
#include "experiments/sweep/sweep.h"
#include "experiments/sweep/sweep_file.h"

namespace klab {
namespace {

constexpr size_t kMostRows = 40;

void introduce(const Plan& plan, const SweepOptions& options) {
  const auto distinct = static_cast<int64_t>(plan.runs.size());
  print_message("{}: {} runs{}; files in {}", plan.name, distinct,
                plan.asked > distinct ? fmt::format(" ({} in the file, some of them identical)", plan.asked) : "",
                options.out);
}

int conclude(const SweepOutcome& outcome, const SweepOptions& options) {
  fmt::print("{}", table_of(outcome, kMostRows));
  for (size_t i = 0; i < outcome.records.size(); ++i) {
    const RunRecord& record = outcome.records[i];
    if (record.state != RunState::diverged && record.state != RunState::failed) continue;
    const std::string values = join(outcome.plan.runs[i].values, " ");
    print_message("klab: run {} ({}) {}: {}", outcome.plan.runs[i].id, values, to_string(record.state), record.reason);
  }
  const SweepFolder folder(options.out);
  fmt::print("{}, {}\n", folder.results(), folder.curves());
  if (outcome.failures() == 0) return 0;
  fmt::print(stderr, "klab: {} of {} runs failed; repeat the command to retry those that did not diverge\n",
             outcome.failures(), outcome.records.size());
  return 1;
}

int sweep(const std::string& file, SweepOptions options, const Globals& globals) {
  require_input(file);
  Sweep runs = read_sweep(file);
  options.out = globals.out.empty() ? "sweeps/" + runs.plan.name : globals.out;
  options.threads = globals.threads;
  options.device = globals.device;
  options.command_line = globals.command_line;
  options.quiet = globals.quiet;
  if (globals.seed) refuse("a sweep does not accept --seed: write `seeds: [{}]` in {}", *globals.seed, file);
  if (!globals.quiet) introduce(runs.plan, options);
  return conclude(run_sweep(std::move(runs), options), options);
}

}  // namespace

Command sweep_command() {
  return {"sweep", "many runs from one file: a grid or random search over any config keys",
          "./klab sweep experiments/configs/sweeps/learning_rates.yaml --out sweeps/lr",
          takes::threads | takes::device | takes::seed | takes::out | takes::quiet,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<SweepOptions>();
            auto file = std::make_shared<std::string>();
            auto slurm = std::make_shared<std::string>();
            app.add_option("FILE", *file, "YAML with base, grid, seeds, random, conditions, halving").required();
            app.add_option("--launcher", options->launcher, "local: processes on this machine; slurm: a job array")
                .one_of({"local", "slurm"})
                .show_default();
            app.add_option("--workers", options->workers,
                           "parallel runs (default: cores / threads per run; Slurm: one task per run)")
                .positive();
            app.add_option("--slurm", *slurm, "options for sbatch, \"--partition=gpu --gres=gpu:1\"");
            return [options, file, slurm, &globals] {
              for (const std::string& word : split(*slurm, ' ')) {
                if (!word.empty()) options->slurm.push_back(word);
              }
              return sweep(*file, *options, globals);
            };
          }};
}

}  // namespace klab
