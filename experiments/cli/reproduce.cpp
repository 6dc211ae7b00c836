// SPDX-License-Identifier: Apache-2.0
// klab reproduce: figures and tables of the report, and suites of tasks.
#include "experiments/study/reproduction.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "experiments/command/command.h"

namespace klab {
namespace {

const Registry<Reproduction>& reproductions() {
  static const Registry<Reproduction> all(
      "figure", {fig1_reproduction(), fig2_reproduction(), fig4_reproduction(), fig5_reproduction(),
                 fig6_reproduction(), fig7_reproduction(), table1_reproduction(), table5_reproduction(),
                 complexity_reproduction(), formal_reproduction(), mad_reproduction()});
  return all;
}

int list_figures() {
  for (const Reproduction& one : reproductions().entries()) fmt::print("{:11} {}\n", one.name, one.claim);
  return 0;
}

int reproduce(const std::vector<std::string>& names, ReproduceOptions options, const Globals& globals) {
  if (names.empty()) return list_figures();
  for (const std::string& name : names) {  // check all names and options before anything runs
    const Reproduction& one = reproductions().at(name);
    if (options.scale == "paper" && !one.has_paper_scale) {
      refuse("{} has no scale `paper`: it extrapolates its measurements to the report's sizes", name);
    }
    if (globals.seed && !one.has_seeds) refuse("{} does not accept --seed: it trains nothing", name);
    if (globals.threads > 0 && one.has_seeds)
      refuse("{} does not accept --threads: each of its runs has one thread", name);
    if (globals.device != "cpu" && !one.has_device) refuse("{} does not accept --device: it measures the CPU", name);
    if (options.redraw && !one.has_redraw) refuse("{} does not accept --redraw: it writes no measured.csv", name);
  }
  options.device = globals.device;
  options.seed = globals.seed;
  options.quiet = globals.quiet;
  options.command_line = globals.command_line;
  const std::filesystem::path base = globals.out.empty() ? "out" : globals.out;
  for (const std::string& name : names) {
    if (options.redraw) require_input((base / name / "measured.csv").string());
  }
  for (const std::string& name : names) {
    options.out = (base / name).string();
    reproductions().at(name).run(options);
  }
  return 0;
}

}  // namespace

Command reproduce_command() {
  return {"reproduce",
          "reproduce figures or tables of the report, or suites of tasks, files in out/NAME; without a name: list them",
          "./klab reproduce fig4 --scale small --budget 2",
          takes::threads | takes::device | takes::seed | takes::out | takes::quiet,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<ReproduceOptions>();
            auto names = std::make_shared<std::vector<std::string>>();
            app.add_option("NAME", *names, "figure, table or suite");
            app.add_option("--scale", options->scale,
                           "paper: the report's setting, for a GPU; small: some hours on two cores; smoke: a "
                           "one-minute test")
                .one_of({"smoke", "small", "paper"})
                .show_default();
            app.add_option("--budget", options->budget_hours,
                           "time limit of each in hours; then reports partial results, and runs can be continued")
                .positive()
                .show_default();
            app.add_flag("--redraw", options->redraw,
                         "fig1 and fig7: regenerate plots and page from the measured.csv of an earlier call");
            return [options, names, &globals] { return reproduce(*names, *options, globals); };
          }};
}

}  // namespace klab
