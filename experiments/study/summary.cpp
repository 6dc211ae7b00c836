// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/summary.h"

#include <algorithm>
#include <filesystem>

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
  RunSummary run{folder, {}, read_record({folder})};
  for (const auto& [key, value] : values_of(read_run_config({folder}))) run.config[key] = value;
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

std::vector<RunSummary> summarise_all(const std::vector<std::string>& folders) {
  std::vector<RunSummary> all;
  for (std::string folder : folders) {
    while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
    const SweepFolder sweep(folder);
    if (!fs::exists(sweep.plan())) {
      all.push_back(summarise(folder));
      continue;
    }
    for (RunSummary& run : summarise_sweep(sweep)) all.push_back(std::move(run));
  }
  if (all.empty()) refuse("there is no run to compare in {}", join(folders));
  return all;
}

std::vector<std::string> differing_keys(const std::vector<RunSummary>& runs) {
  std::vector<std::string> keys;
  for (const auto& run : runs) {
    for (const auto& [key, value] : run.config) {
      if (is_seed(key) || std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
      const bool differs = std::any_of(runs.begin(), runs.end(), [&, k = key, v = value](const RunSummary& other) {
        const auto found = other.config.find(k);
        return found != other.config.end() && found->second != v;
      });
      if (differs) keys.push_back(key);
    }
  }
  return keys;
}

std::vector<double> RunGroup::metric(const std::string& name) const {
  std::vector<double> numbers;
  for (const RunSummary* run : runs) numbers.push_back(metric_of(run->record, name));
  return numbers;
}

std::vector<RunGroup> grouped(const std::vector<RunSummary>& runs, const std::vector<std::string>& keys) {
  std::vector<RunGroup> groups;
  for (const RunSummary& run : runs) {
    std::vector<Value> values;
    for (const std::string& key : keys) values.push_back(run.field(key));
    auto at = std::find_if(groups.begin(), groups.end(), [&](const RunGroup& g) { return g.values == values; });
    if (at == groups.end()) at = groups.insert(groups.end(), {values, {}});
    at->runs.push_back(&run);
  }
  return groups;
}

std::vector<RunGroup> best_over(const std::vector<RunGroup>& groups, const std::vector<std::string>& keys,
                                const std::string& over, const std::string& metric) {
  const auto place = static_cast<size_t>(std::find(keys.begin(), keys.end(), over) - keys.begin());
  if (place == keys.size()) return groups;
  std::vector<std::pair<std::vector<Value>, RunGroup>> best;                   // by the values of the other keys
  const std::string tie = metric.starts_with("best_") ? "best_loss" : "loss";  // breaks ties
  for (const RunGroup& group : groups) {
    std::vector<Value> rest = group.values;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(place));
    const auto at = std::find_if(best.begin(), best.end(), [&](const auto& one) { return one.first == rest; });
    if (at == best.end()) {
      best.emplace_back(rest, group);
      continue;
    }
    const auto mean = [](const RunGroup& g, const std::string& name) { return estimate(g.metric(name)).mean; };
    const std::string& deciding = mean(group, metric) == mean(at->second, metric) ? tie : metric;
    if (better(deciding, mean(group, deciding), mean(at->second, deciding))) at->second = group;
  }
  std::vector<RunGroup> all;
  for (auto& [rest, group] : best) all.push_back(std::move(group));
  return all;
}

}  // namespace klab
