// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/study.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/text.h"
#include "core/base/yaml.h"
#include "experiments/sweep/sweep.h"
#include "experiments/sweep/sweep_file.h"

namespace klab {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr double kSearchShare = 0.6;  // of the budget

bool fits(const RunSummary& run, const std::vector<CellKey>& cell) {
  return std::all_of(cell.begin(), cell.end(), [&](const CellKey& one) { return run.field(one.key) == one.value; });
}

SweepOutcome conduct(Sweep sweep, const std::string& folder, double hours, const ReproduceOptions& options) {
  SweepOptions how;
  how.out = folder;
  how.command_line = options.command_line;
  how.budget_hours = hours;
  how.quiet = options.quiet;
  how.device = options.device;
  SweepOutcome outcome = run_sweep(std::move(sweep), how);
  for (size_t i = 0; i < outcome.records.size(); ++i) {
    if (outcome.records[i].state != RunState::failed) continue;
    fail("run {} failed: {}", outcome.plan.runs[i].id, outcome.records[i].reason);
  }
  return outcome;
}

// The run with the best metric of each cell.
std::vector<RunSummary> best_of_cells(const std::vector<RunSummary>& runs, const StudyPlan& plan) {
  std::vector<std::string> keys = plan.cells;
  keys.emplace_back("train.lr");
  std::vector<RunSummary> best;
  for (const RunGroup& group : best_over(grouped(runs, keys), keys, "train.lr", plan.metric)) {
    best.push_back(*group.runs.front());
  }
  return best;
}

Sweep fresh_seeds(const std::vector<RunSummary>& best, const StudyPlan& plan) {
  std::vector<RunConfig> configs;
  for (const RunSummary& run : best) {
    for (int64_t i = 1; i <= plan.seeds; ++i) {
      std::vector<Assignment> assignments = read_yaml(RunFolder{run.folder}.config());
      assignments.push_back({"train.seed", run.field("train.seed").get<int64_t>() + i, "the study"});
      configs.push_back(make_run_config(assignments));
    }
  }
  std::vector<std::string> shown = plan.cells;
  shown.insert(shown.end(), {"train.lr", "train.seed"});
  return make_sweep("seeds", configs, shown);
}

void keep(const std::string& from, const std::string& to) {
  if (fs::exists(from)) write_file(to, read_file(from));
}

}  // namespace

Study run_study(const StudyPlan& plan, const ReproduceOptions& options) {
  const Clock::time_point begin = Clock::now();
  const std::string work = options.out + "/runs-" + options.scale;
  const SweepFolder search(work + "/search"), seeds(work + "/seeds");
  make_writable_folder(options.out);
  Study study;
  const std::string file = fmt::format("figures/{}/{}.yaml", plan.figure, options.scale);
  std::vector<Assignment> seed;
  if (options.seed) seed.push_back({"train.seed", *options.seed, "--seed"});
  SweepOutcome found =
      conduct(read_builtin_sweep(file, seed), search.path(), kSearchShare * options.budget_hours, options);
  study.search = summarise_sweep(search);
  if (study.search.empty()) fail("no run of {} reached an evaluation: use a larger --budget", plan.figure);
  const double hours = std::chrono::duration<double>(Clock::now() - begin).count() / 3600;
  // An unfinished search may still find a better learning rate.
  study.out_of_time = found.out_of_time;
  if (!found.out_of_time) {
    const SweepOutcome again = conduct(fresh_seeds(best_of_cells(study.search, plan), plan), seeds.path(),
                                       std::max(options.budget_hours - hours, 1e-3), options);
    study.measured = summarise_sweep(seeds);
    study.out_of_time = again.out_of_time;
    keep(seeds.results(), options.out + "/results.csv");
    keep(seeds.curves(), options.out + "/curves.csv");
    keep(seeds.evaluations(), options.out + "/evaluations.csv");
  }
  keep(search.results(), options.out + "/search.csv");
  return study;
}

std::vector<double> metric_of_cell(const std::vector<RunSummary>& runs, const std::vector<CellKey>& cell,
                                   const std::string& metric) {
  std::vector<double> values;
  for (const RunSummary& run : runs) {
    if (fits(run, cell)) values.push_back(metric_of(run.record, metric));
  }
  return values;
}

std::vector<Value> values_of_key(const std::vector<RunSummary>& runs, const std::string& key) {
  std::vector<Value> values;
  for (const RunSummary& run : runs) {
    const Value value = run.field(key);
    if (!value.is_null() && std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  }
  if (!values.empty() && values.front().is_number()) std::sort(values.begin(), values.end());
  return values;
}

std::string percent(const std::vector<double>& shares) {
  if (shares.empty()) return "-";
  const Estimate e = estimate(shares);
  if (e.count == 1) return fmt::format("{:.1f}", 100 * e.mean);
  return fmt::format("{:.1f} ± {:.1f}", 100 * e.mean, 100 * e.half_width);
}

std::string verdict(const std::vector<double>& x, const std::vector<double>& y) {
  if (x.size() < 2 || y.size() < 2) return "not measured";
  const Estimate e = estimate_difference(x, y);
  if (e.low() > 0) return "held";
  return e.high() < 0 ? "reversed" : "not decided";
}

std::string difference(const std::vector<double>& x, const std::vector<double>& y) {
  if (x.size() < 2 || y.size() < 2) return "-";
  const Estimate e = estimate_difference(x, y);
  return fmt::format("{:+.1f} [{:+.1f}, {:+.1f}]", 100 * e.mean, 100 * e.low(), 100 * e.high());
}

void write_page(const ReproduceOptions& options, const std::vector<std::string>& lines) {
  write_file(options.out + "/page.md", join(lines, "\n") + "\n");
}

}  // namespace klab
