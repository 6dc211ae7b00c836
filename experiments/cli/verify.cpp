// SPDX-License-Identifier: Apache-2.0
// klab verify: repeats runs of a committed study and compares the results.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "core/base/table.h"
#include "experiments/command/command.h"
#include "experiments/study/verify.h"

namespace klab {
namespace {

void print(const VerifiedRun& run) {
  fmt::print("{}\n", run.name);
  std::vector<std::vector<std::string>> rows;
  for (const VerifiedMetric& metric : run.metrics) {
    rows.push_back({metric.name, fmt::format("{:.6f}", metric.committed), fmt::format("{:.6f}", metric.repeated),
                    metric.equal ? "equal" : "differs", fmt::format("{:.3f} to {:.3f}", metric.low, metric.high)});
  }
  fmt::print("{}", format_table({"metric", "committed", "repeated", "", "seeds of the cell"}, rows));
  if (run.same_origin) {
    fmt::print("{}: by the same version on the same kind of machine every digit must be equal\n\n",
               run.passed() ? "passed" : "FAILED");
  } else {
    fmt::print(
        "{}: made by another version or on another kind of machine ({}; {}); accuracies must lie within {:g} of the "
        "range of the cell's seeds\n\n",
        run.passed() ? "passed" : "FAILED", run.version, run.machine, kVerifyTolerance);
  }
}

int verify(const std::string& folder, int64_t count, const Globals& globals) {
  const uint64_t seed = globals.seed
                            ? static_cast<uint64_t>(*globals.seed)
                            : static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  const std::vector<VerifiedRun> runs = verify_study(folder, count, seed, globals.quiet);
  for (const VerifiedRun& run : runs) print(run);
  const auto passed = std::count_if(runs.begin(), runs.end(), [](const VerifiedRun& run) { return run.passed(); });
  fmt::print("{} of {} repeated runs passed\n", passed, runs.size());
  return passed == static_cast<int64_t>(runs.size()) ? 0 : 1;
}

}  // namespace

Command verify_command() {
  return {
      "verify", "repeat random runs of a committed study and compare the results", "./klab verify results/fig4",
      takes::seed | takes::quiet, [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
        auto folder = std::make_shared<std::string>();
        app.add_option("DIR", *folder, "folder with study.yaml and results.csv").required();
        auto count = std::make_shared<int64_t>(1);
        app.add_option("--runs", *count, "runs to repeat; --seed draws the same ones again").positive().show_default();
        return [=, &globals] { return verify(*folder, *count, globals); };
      }};
}

}  // namespace klab
