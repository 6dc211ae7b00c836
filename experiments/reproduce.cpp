// klab reproduce: figures and tables of the report.
#include "experiments/reproduce.h"

#include <fmt/format.h>

#include <filesystem>

#include "core/base/registry.h"
#include "experiments/command.h"

namespace klab {
namespace {

const Registry<Reproduction>& reproductions() {
  static const Registry<Reproduction> all("figure", {fig1_reproduction(), fig7_reproduction()});
  return all;
}

int list() {
  for (const Reproduction& one : reproductions().entries()) fmt::print("{:8} {}\n", one.name, one.claim);
  return 0;
}

int run(const std::vector<std::string>& names, ReproduceOptions options, const Globals& globals) {
  if (names.empty()) return list();
  for (const std::string& name : names) reproductions().at(name);  // refused before anything runs
  options.quiet = globals.quiet;
  options.command_line = globals.command_line;
  for (const std::string& name : names) {
    const std::string base = globals.out.empty() ? "results" : globals.out;
    options.out = (std::filesystem::path(base) / name).string();
    reproductions().at(name).run(options);
  }
  return 0;
}

}  // namespace

Command reproduce_command() {
  return {"reproduce", "measure a figure or table of the report again; without a name: list them",
          "./klab reproduce fig1 fig7", [](CLI::App& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<ReproduceOptions>();
            auto names = std::make_shared<std::vector<std::string>>();
            app.add_option("NAME", *names, "what to reproduce");
            app.add_option("--scale", options->scale,
                           "small: real widths and fewer layers; smoke: small widths too, for a test in a minute")
                ->check(CLI::IsMember({"smoke", "small"}))
                ->capture_default_str();
            app.add_option("--budget", options->budget_hours,
                           "hours that the measurements may take; longer ones are left out")
                ->check(CLI::PositiveNumber)
                ->capture_default_str();
            app.add_flag("--redraw", options->redraw,
                         "draw and conclude again from the measured.csv of an earlier call");
            return [options, names, &globals] { return run(*names, *options, globals); };
          }};
}

}  // namespace klab
