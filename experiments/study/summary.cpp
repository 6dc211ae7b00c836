#include "experiments/study/summary.h"

#include <algorithm>
#include <filesystem>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/text.h"
#include "core/model/accounting.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

// It says nothing of what was compared: it makes the spread.
bool is_seed(const std::string& key) { return key == "train.seed"; }

// From metrics.csv, for runs without a status of their own.
RunRecord read_metrics(const std::string& path) {
  RunRecord record;
  if (!fs::exists(path)) return record;
  const CsvTable table = read_csv(path);
  const auto number = [&](const std::vector<std::string>& row, const char* column) {
    return std::stod(row[table.column(column)]);
  };
  for (const auto& row : table.rows) {
    if (row[table.column("split")] != "test") continue;
    const bool better = !record.evaluated || std::pair(number(row, "acc_seq"), -number(row, "loss")) >
                                                 std::pair(record.best_acc_seq, -record.best_loss);
    record.evaluated = true;
    record.step = std::stoll(row[table.column("step")]);
    record.loss = number(row, "loss");
    record.acc_tok = number(row, "acc_tok");
    record.acc_seq = number(row, "acc_seq");
    record.tokens_per_second = number(row, "tokens_per_second");
    record.seconds = number(row, "seconds");
    if (better) {
      record.best_loss = record.loss;
      record.best_acc_tok = record.acc_tok;
      record.best_acc_seq = record.acc_seq;
    }
  }
  return record;
}

}  // namespace

RunSummary summarise(const std::string& folder) {
  const std::string path = folder + "/config.yaml";
  if (!fs::exists(path)) refuse("'{}' is neither a run nor a sweep: it has no config.yaml or plan.json", folder);
  RunSummary run;
  run.folder = folder;
  RunConfig config = make_run_config(read_yaml(path));
  const Fields fields = Fields::of(config);
  for (const Field& field : fields.all()) run.config[field.key] = field.get();
  const fs::path place(folder);
  run.record = SweepFolder(place.parent_path().string()).read(place.filename().string());
  if (!run.record.evaluated) run.record = read_metrics(RunFolder{folder}.metrics());
  if (!run.record.evaluated) fail("the run in '{}' has not been evaluated yet", folder);
  if (run.record.parameters == 0) {
    const ParameterPlace nowhere(torch::kMeta, torch::kFloat);  // counting needs no memory
    const Accounting cost = account(make_model(config), config.task.length);
    run.record.parameters = cost.parameters;
    run.record.state_bytes = cost.state_bytes;
  }
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
    std::vector<std::string> values;
    for (const std::string& key : keys) {
      const auto found = run.config.find(key);
      values.push_back(found == run.config.end() ? "" : found->second);
    }
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
  std::vector<std::pair<std::vector<std::string>, RunGroup>> best;  // by the other keys
  const double sign = larger_is_better(metric) ? 1 : -1;
  const std::string tie = metric.starts_with("best_") ? "best_loss" : "loss";  // decides between equals
  for (const RunGroup& group : groups) {
    std::vector<std::string> rest = group.values;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(place));
    const auto at = std::find_if(best.begin(), best.end(), [&](const auto& one) { return one.first == rest; });
    if (at == best.end()) {
      best.emplace_back(rest, group);
      continue;
    }
    const auto score = [&](const RunGroup& g, const std::string& name) { return estimate(g.metric(name)).mean; };
    const auto key = [&](const RunGroup& g) { return std::pair(sign * score(g, metric), -score(g, tie)); };
    if (key(group) > key(at->second)) at->second = group;
  }
  std::vector<RunGroup> all;
  for (auto& [rest, group] : best) all.push_back(std::move(group));
  return all;
}

double metric_of(const RunRecord& record, const std::string& name) {
  const std::vector<std::pair<std::string, double>> all = {{"loss", record.loss},
                                                           {"acc_tok", record.acc_tok},
                                                           {"acc_seq", record.acc_seq},
                                                           {"best_loss", record.best_loss},
                                                           {"best_acc_tok", record.best_acc_tok},
                                                           {"best_acc_seq", record.best_acc_seq},
                                                           {"step", static_cast<double>(record.step)},
                                                           {"seconds", record.seconds},
                                                           {"tokens_per_second", record.tokens_per_second},
                                                           {"parameters", static_cast<double>(record.parameters)},
                                                           {"state_bytes", static_cast<double>(record.state_bytes)}};
  std::vector<std::string> names;
  for (const auto& [known, value] : all) {
    if (known == name) return value;
    names.push_back(known);
  }
  refuse("'{}' is no metric of a run{}. Known: {}", name, did_you_mean(name, names), join(names));
}

}  // namespace klab
