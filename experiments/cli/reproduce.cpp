// klab reproduce: figures and tables of the report.
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
      "figure", {fig1_reproduction(), fig2_reproduction(), fig4_reproduction(), fig7_reproduction(),
                 table5_reproduction(), complexity_reproduction()});
  return all;
}

int list_figures() {
  for (const Reproduction& one : reproductions().entries()) fmt::print("{:11} {}\n", one.name, one.claim);
  return 0;
}

int reproduce(const std::vector<std::string>& names, ReproduceOptions options, const Globals& globals) {
  if (names.empty()) return list_figures();
  for (const std::string& name : names) {  // refused before anything runs
    const Reproduction& one = reproductions().at(name);
    if (options.scale == "paper" && !one.has_paper_scale) {
      refuse("{} has no scale `paper`: it extrapolates to the report's sizes from what is measured", name);
    }
    if (globals.seed && !one.has_seeds) refuse("--seed does not go with {}: it trains nothing", name);
    if (globals.threads > 0 && one.has_seeds)
      refuse("--threads does not go with {}: each of its runs has one thread", name);
    if (globals.device != "cpu" && !one.has_device) refuse("--device does not go with {}: it measures the CPU", name);
    if (options.redraw && !one.has_redraw) refuse("--redraw does not go with {}: it keeps no measured.csv", name);
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
  return {"reproduce", "measure figures or tables of the report again, files in out/NAME; without a name: list them",
          "./klab reproduce fig4 --scale small --budget 2",
          takes::threads | takes::device | takes::seed | takes::out | takes::quiet,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<ReproduceOptions>();
            auto names = std::make_shared<std::vector<std::string>>();
            app.add_option("NAME", *names, "what to reproduce");
            app.add_option("--scale", options->scale,
                           "paper: the report's setting, for a GPU; small: what two cores can do in about two hours; "
                           "smoke: that it works, in a minute")
                .one_of({"smoke", "small", "paper"})
                .show_default();
            app.add_option("--budget", options->budget_hours,
                           "hours that each may take; then what is there is shown, and runs can be continued")
                .positive()
                .show_default();
            app.add_flag("--redraw", options->redraw,
                         "fig1 and fig7: draw and conclude again from the measured.csv of an earlier call");
            return [options, names, &globals] { return reproduce(*names, *options, globals); };
          }};
}

}  // namespace klab
