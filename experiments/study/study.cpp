// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/study.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/provenance.h"
#include "core/base/table.h"
#include "core/base/text.h"
#include "core/base/yaml.h"
#include "experiments/run/run.h"
#include "experiments/study/time_budget.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

constexpr double kSearchShare = 0.6;  // of the time limit
constexpr int64_t kThreads = 1;       // per run: small models train faster in parallel runs than with more threads

// The keys of a cell and the compared one.
std::vector<std::string> group_keys(const StudyConfig& study) {
  std::vector<std::string> keys = study.cells;
  keys.push_back(study.compare);
  return keys;
}

Value field_of(const RunConfig& config, const std::string& key) { return Fields::of(config).find(key)->get(); }

std::vector<Value> group_of(const RunConfig& config, const StudyConfig& study) {
  std::vector<Value> values;
  for (const std::string& key : group_keys(study)) values.push_back(field_of(config, key));
  return values;
}

// Whether any cell has more than one setting to choose from.
bool has_choice(const StudyFile& file) {
  std::map<std::string, std::set<std::string>> settings;
  for (const RunConfig& config : file.search.configs) {
    settings[Value(group_of(config, file.study)).dump()].insert(field_of(config, file.study.choose).dump());
  }
  return std::any_of(settings.begin(), settings.end(), [](const auto& one) { return one.second.size() > 1; });
}

// The runs of the search without those that diverged, whatever they had reached, unless their cell has no others.
std::vector<RunSummary> candidates(const std::vector<RunSummary>& search, const StudyConfig& study) {
  std::vector<RunSummary> kept;
  for (const RunGroup& cell : grouped(search, group_keys(study))) {
    const auto is_sound = [](const RunSummary* run) { return run->record.state != RunState::diverged; };
    const bool any_sound = std::any_of(cell.runs.begin(), cell.runs.end(), is_sound);
    for (const RunSummary* run : cell.runs) {
      if (is_sound(run) || !any_sound) kept.push_back(*run);
    }
  }
  return kept;
}

// One config per cell and compared value: that of the best setting in the search.
std::vector<RunConfig> chosen(const std::vector<RunSummary>& search, const StudyConfig& study) {
  std::vector<std::string> keys = group_keys(study);
  keys.push_back(study.choose);
  std::vector<RunConfig> configs;
  const std::vector<RunSummary> sound = candidates(search, study);
  for (const RunGroup& group : best_over(grouped(sound, keys), keys, study.choose, study.choose_by)) {
    configs.push_back(read_run_config({group.runs.front()->folder}));
  }
  return configs;
}

// Without a choice the first config of every cell, whatever its seed.
std::vector<RunConfig> first_of_cells(const StudyFile& file) {
  std::vector<RunConfig> configs;
  std::set<std::string> seen;
  for (const RunConfig& config : file.search.configs) {
    if (seen.insert(Value(group_of(config, file.study)).dump()).second) configs.push_back(config);
  }
  return configs;
}

std::vector<std::string> shown_keys(const StudyFile& file) {
  std::vector<std::string> shown = group_keys(file.study);
  shown.insert(shown.end(), {file.study.choose, "train.seed"});
  return shown;
}

Sweep with_new_seeds(const std::vector<RunConfig>& chosen, const StudyFile& file, const StudyOptions& options) {
  std::vector<RunConfig> configs;
  for (const int64_t seed : new_seeds(file)) {  // seed by seed, so that a part of the study is balanced
    for (const RunConfig& config : chosen) {
      configs.emplace_back(config).train.seed = seed;
      if (options.prepare) options.prepare(configs.back());
    }
  }
  return make_sweep("seeds", configs, shown_keys(file));
}

Sweep search_of(const StudyFile& file, const StudyOptions& options) {
  if (!options.prepare) return file.search;
  std::vector<RunConfig> configs = file.search.configs;
  for (RunConfig& config : configs) options.prepare(config);
  return make_sweep("search", configs, shown_keys(file));
}

// The runs that are over, in the order of the file: also those that diverged before their first evaluation, so that no
// seed is left out of the results for having diverged.
std::vector<RunSummary> runs_over(const SweepFolder& sweep) {
  const Plan plan = sweep.read_plan();
  std::vector<RunSummary> runs;
  for (const size_t i : plan.in_file_order()) {
    const std::string& id = plan.runs[i].id;
    if (is_over(sweep.read(id).state)) runs.push_back(read_summary(sweep.run(id).path));
  }
  return runs;
}

void keep(const std::string& from, const std::string& to) {
  if (fs::exists(from)) write_file(to, read_file(from));
}

// Whether a line of the text, or a map in braces, begins with `extends`.
bool extends_another(const std::string& text) {
  for (size_t at = text.find("extends:"); at != std::string::npos; at = text.find("extends:", at + 1)) {
    const size_t before = at == 0 ? std::string::npos : text.find_last_not_of(' ', at - 1);
    if (before == std::string::npos || text[before] == '\n' || text[before] == '{') return true;
  }
  return false;
}

// A folder holds one study: its file may not change under the runs.
void keep_file(const StudyFile& file, const std::string& path) {
  if (extends_another(file.text)) {
    refuse("{}: a study file must be complete, without `extends`: it is kept beside the results", file.name);
  }
  if (fs::exists(path) && read_file(path) != file.text) {
    refuse("'{}' is of another study than {}: choose another --out, or remove that folder", path, file.name);
  }
  write_file(path, file.text);
}

}  // namespace

SweepOutcome run_part(Sweep sweep, const std::string& folder, double hours, const StudyOptions& options) {
  SweepOptions how;
  how.out = folder;
  how.command_line = options.command_line;
  how.budget_hours = hours;
  how.workers = options.workers;
  how.threads = kThreads;
  how.quiet = options.quiet;
  how.device = options.device;
  SweepOutcome outcome = run_sweep(std::move(sweep), how);
  for (size_t i = 0; i < outcome.records.size(); ++i) {
    if (outcome.records[i].state != RunState::failed) continue;
    fail("run {} failed: {}", outcome.plan.runs[i].id, outcome.records[i].reason);
  }
  return outcome;
}

std::vector<int64_t> new_seeds(const StudyFile& file) {
  int64_t used = 0;
  for (const RunConfig& config : file.search.configs) used = std::max(used, config.train.seed);
  std::vector<int64_t> seeds;
  for (int64_t i = 1; i <= file.study.seeds; ++i) seeds.push_back(used + i);
  return seeds;
}

Study run_study(const StudyFile& file, const StudyOptions& options) {
  const TimeBudget budget(options.budget_hours);
  const std::string work = options.out + "/runs-" + fs::path(file.name).stem().string();
  const SweepFolder search(work + "/search"), seeds(work + "/seeds");
  make_writable_folder(options.out);
  keep_file(file, options.out + "/study.yaml");
  Study study{file.name, file.study, {}, {}, false, provenance(options.command_line, kThreads)};
  std::vector<RunConfig> settings;
  if (has_choice(file)) {
    study.out_of_time =
        run_part(search_of(file, options), search.path(), kSearchShare * options.budget_hours, options).out_of_time;
    study.search = summarise_sweep(search);
    if (study.search.empty()) fail("no run of {} reached an evaluation: use a larger --budget", file.name);
    if (!study.out_of_time) settings = chosen(study.search, file.study);
  } else {
    settings = first_of_cells(file);
  }
  if (!study.out_of_time) {  // an unfinished search may still find a better setting
    study.out_of_time =
        run_part(with_new_seeds(settings, file, options), seeds.path(), budget.left(), options).out_of_time;
    study.measured = runs_over(seeds);
    keep(seeds.results(), options.out + "/results.csv");
    keep(seeds.curves(), options.out + "/curves.csv");
    keep(seeds.evaluations(), options.out + "/evaluations.csv");
  }
  keep(search.results(), options.out + "/search.csv");
  return study;
}

std::string short_text(const Value& value) { return bare_list(text_of(value)); }

std::string short_text(const std::vector<Value>& values) {
  std::vector<std::string> words;
  for (const Value& value : values) words.push_back(short_text(value));
  return join(words);
}

std::vector<const RunSummary*> StudyCell::of(const std::string& compared) const {
  for (const auto& [name, list] : runs) {
    if (name == bare_list(compared)) return list;
  }
  return {};
}

std::vector<StudyCell> cells_of(const Study& study) {
  std::vector<StudyCell> cells;
  for (const RunGroup& group : grouped(study.measured, group_keys(study.config))) {
    std::vector<Value> values(group.values.begin(), group.values.end() - 1);
    auto cell = std::find_if(cells.begin(), cells.end(), [&](const StudyCell& one) { return one.values == values; });
    if (cell == cells.end()) cell = cells.insert(cells.end(), {values, {}});
    cell->runs.emplace_back(short_text(group.values.back()), group.runs);
  }
  return cells;
}

std::vector<double> outcomes(const std::vector<const RunSummary*>& runs, const std::string& metric) {
  std::vector<double> values;
  const bool larger = better(metric, 1, 0);
  for (const RunSummary* run : runs) {
    const bool diverged = run->record.state == RunState::diverged;
    if (diverged && larger) values.push_back(0);
    if (!diverged) values.push_back(metric_of(run->record, metric));
  }
  return values;
}

std::vector<Time> times_of(const std::vector<const RunSummary*>& runs, const StudyConfig& study) {
  std::vector<Time> times;
  for (const RunSummary* run : runs) times.push_back(steps_to(*run, study.reach, study.reach_at));
  return times;
}

Time steps_to(const RunSummary& run, const std::string& metric, double threshold) {
  const CsvTable table = read_csv(RunFolder{run.folder}.metrics());
  const size_t step = table.column("step"), split = table.column("split"), value = table.column(metric);
  for (const auto& row : table.rows) {
    if (row[split] == "validation" && std::stod(row[value]) >= threshold) return {std::stod(row[step]), true};
  }
  // A run that diverged will not get there with all of its steps.
  const bool diverged = run.record.state == RunState::diverged;
  return {diverged ? run.field("train.steps").get<double>() : static_cast<double>(run.record.step), false};
}

}  // namespace klab
