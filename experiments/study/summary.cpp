// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/summary.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <tuple>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/yaml.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

// The seed is a replicate, not a compared setting.
bool is_seed(const std::string& key) { return key == "train.seed"; }

}  // namespace

Value RunSummary::field(const std::string& key) const {
  const auto found = config.find(key);
  return found == config.end() ? Value() : found->second;
}

std::optional<LanguageLosses> language_losses(const RunSummary& run) {
  const std::string file = run.folder + "/evaluations.csv";
  if (!fs::exists(file)) return {};
  const CsvTable table = read_csv(file);
  const size_t variant = table.column("variant"), difficulty = table.column("difficulty"), loss = table.column("loss"),
               excess = table.column("excess");
  LanguageLosses losses;
  for (const auto& row : table.rows) {
    if (row[difficulty] != "all") continue;
    (row[variant].empty() ? losses.loss : losses.shifted) = std::stod(row[loss]);
    (row[variant].empty() ? losses.excess : losses.shifted_excess) = std::stod(row[excess]);
  }
  return losses;
}

RunSummary read_summary(const std::string& folder) {
  const RunConfig config = read_run_config({folder});
  RunSummary run{folder, {}, read_record({folder}), config_hash(config)};
  for (const auto& [key, value] : values_of(config)) run.config[key] = value;
  return run;
}

RunSummary summarise(const std::string& folder) {
  const std::string path = RunFolder{folder}.config();
  if (!fs::exists(path)) refuse("'{}' is neither a run nor a sweep: it has no config.yaml or plan.json", folder);
  const RunSummary run = read_summary(folder);
  if (!run.record.evaluated) fail("the run in '{}' has not been evaluated yet", folder);
  return run;
}

std::vector<RunSummary> summarise_sweep(const SweepFolder& sweep) {
  const Plan plan = sweep.read_plan();
  std::vector<RunSummary> runs;
  for (const size_t i : plan.in_file_order()) {
    const std::string& id = plan.runs[i].id;
    if (sweep.read(id).evaluated) runs.push_back(summarise(sweep.run(id).path));
  }
  return runs;
}

namespace {

RunSummary read_planned(const SweepFolder& sweep, const std::string& id) {
  if (fs::exists(sweep.config(id))) return read_summary(sweep.run(id).path);
  return {sweep.run(id).path, {}, {}, id};
}

std::vector<RunSummary> read_all(const std::vector<std::string>& folders) {
  std::vector<RunSummary> all;
  for (std::string folder : folders) {
    while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
    const SweepFolder sweep(folder);
    if (!fs::exists(sweep.plan())) {
      all.push_back(summarise(folder));
      continue;
    }
    const Plan plan = sweep.read_plan();
    for (const size_t i : plan.in_file_order()) all.push_back(read_planned(sweep, plan.runs[i].id));
  }
  return all;
}

bool further(const RunRecord& a, const RunRecord& b) {
  return std::tuple(a.evaluated, a.tested, a.step) > std::tuple(b.evaluated, b.tested, b.step);
}

}  // namespace

RunSet summarise_all(const std::vector<std::string>& folders) {
  std::vector<RunSummary> distinct;
  std::map<std::string, size_t> places;  // in `distinct`, by id
  std::set<std::string> shared;
  for (RunSummary& run : read_all(folders)) {
    const auto at = places.emplace(run.id, distinct.size());
    if (at.second) {
      distinct.push_back(std::move(run));
      continue;
    }
    shared.insert(run.id);
    RunSummary& other = distinct[at.first->second];
    if (further(run.record, other.record)) other = std::move(run);
  }
  RunSet set;
  set.shared = static_cast<int64_t>(shared.size());
  for (RunSummary& run : distinct) (run.record.evaluated ? set.runs : set.missing).push_back(std::move(run));
  if (set.runs.empty()) {
    refuse("there is no run to compare in {}{}", join(folders),
           set.missing.empty() ? "" : fmt::format(": none of {} runs has been evaluated", set.missing.size()));
  }
  return set;
}

std::vector<std::string> differing_keys(const std::vector<RunSummary>& runs, const std::vector<RunSummary>& more_runs) {
  std::vector<std::string> order;
  std::map<std::string, Value> first;
  std::set<std::string> differing;
  for (const auto* some : {&runs, &more_runs}) {
    for (const RunSummary& run : *some) {
      for (const auto& [key, value] : run.config) {
        if (is_seed(key)) continue;
        const auto at = first.emplace(key, value);
        if (at.second) order.push_back(key);
        if (at.first->second != value) differing.insert(key);
      }
    }
  }
  std::erase_if(order, [&](const std::string& key) { return !differing.contains(key); });
  return order;
}

std::vector<double> RunGroup::metric(const std::string& name) const {
  std::vector<double> numbers;
  for (const RunSummary* run : runs) numbers.push_back(metric_of(run->record, name));
  return numbers;
}

std::string group_name(const std::vector<Value>& values) {
  return Value(values).dump(-1, ' ', false, Value::error_handler_t::replace);
}

std::vector<RunGroup> grouped(const std::vector<RunSummary>& runs, const std::vector<std::string>& keys) {
  std::vector<RunGroup> groups;
  std::map<std::string, size_t> places;  // in `groups`, by name
  for (const RunSummary& run : runs) {
    std::vector<Value> values;
    for (const std::string& key : keys) values.push_back(run.field(key));
    const auto at = places.emplace(group_name(values), groups.size());
    if (at.second) groups.push_back({values, {}});
    groups[at.first->second].runs.push_back(&run);
  }
  return groups;
}

std::vector<RunGroup> split_by_end(const std::vector<RunGroup>& groups) {
  std::vector<RunGroup> all;
  for (const RunGroup& group : groups) {
    std::map<std::pair<RunState, int64_t>, size_t> places;  // in `all`
    for (const RunSummary* run : group.runs) {
      const RunRecord& record = run->record;
      const int64_t step = record.state == RunState::finished ? 0 : record.step;
      const auto at = places.emplace(std::pair(record.state, step), all.size());
      if (at.second) all.push_back({group.values, {}});
      all[at.first->second].runs.push_back(run);
    }
  }
  return all;
}

std::vector<RunGroup> best_over(const std::vector<RunGroup>& groups, const std::vector<std::string>& keys,
                                const std::string& over, const std::string& metric) {
  const auto place = static_cast<size_t>(std::find(keys.begin(), keys.end(), over) - keys.begin());
  if (place == keys.size()) return groups;
  std::vector<RunGroup> best;
  std::map<std::string, size_t> places;                                        // in `best`, by the other keys' values
  const std::string tie = metric.starts_with("best_") ? "best_loss" : "loss";  // breaks ties
  for (const RunGroup& group : groups) {
    std::vector<Value> rest = group.values;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(place));
    const auto at = places.emplace(group_name(rest), best.size());
    if (at.second) {
      best.push_back(group);
      continue;
    }
    RunGroup& other = best[at.first->second];
    const auto mean = [](const RunGroup& g, const std::string& name) { return estimate(g.metric(name)).mean; };
    const std::string& deciding = mean(group, metric) == mean(other, metric) ? tie : metric;
    if (better(deciding, mean(group, deciding), mean(other, deciding))) other = group;
  }
  return best;
}

}  // namespace klab
