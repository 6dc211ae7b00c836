// SPDX-License-Identifier: Apache-2.0
// klab compare: runs and sweeps as one table.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <set>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/message.h"
#include "core/base/provenance.h"
#include "core/base/table.h"
#include "core/base/text.h"
#include "experiments/command/command.h"
#include "experiments/study/bounded_mean.h"
#include "experiments/study/summary.h"

namespace klab {
namespace {

constexpr size_t kMostMissing = 20;

struct CompareOptions {
  std::vector<std::string> folders, by;
  std::string metrics = "best_acc_seq,acc_tok,loss", best, format = "text";
};

struct Table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
};

// The 95 % interval of the mean: of shares without an assumption, of losses Student's.
Interval interval_of(const std::vector<double>& values, const std::string& metric) {
  if (metric.find("acc") != std::string::npos) return mean_interval(values, {0, 1});
  const Estimate e = estimate(values);
  return {e.low(), e.high()};
}

// "0.931 [0.907, 0.955]".
std::string estimate_text(const std::vector<double>& values, const std::string& metric) {
  if (values.size() == 1) return fmt::format("{:.3f}", values.front());
  const Interval interval = interval_of(values, metric);
  return fmt::format("{:.3f} [{:.3f}, {:.3f}]", mean_of(values), interval.low, interval.high);
}

// Test results that not all runs of the group have.
bool lacks(const RunGroup& group, const std::string& metric) {
  const auto tested = [](const RunSummary* run) { return run->record.tested; };
  return metric.find("test_") != std::string::npos && !std::all_of(group.runs.begin(), group.runs.end(), tested);
}

// "800", or "300-800" of runs that ended early on success.
std::string steps_text(const RunGroup& group) {
  const auto by_step = [](const RunSummary* a, const RunSummary* b) { return a->record.step < b->record.step; };
  const auto [least, most] = std::minmax_element(group.runs.begin(), group.runs.end(), by_step);
  const int64_t from = (*least)->record.step, to = (*most)->record.step;
  return from == to ? fmt::format("{}", from) : fmt::format("{}-{}", from, to);
}

Table comparison_table(const std::vector<RunGroup>& groups, const std::vector<std::string>& keys,
                       const std::vector<std::string>& metrics, const std::string& format) {
  Table table;
  for (const std::string& key : keys) table.columns.push_back(format == "csv" ? key : key.substr(key.rfind('.') + 1));
  for (const char* column : {"seeds", "state", "steps"}) table.columns.emplace_back(column);
  for (const std::string& metric : metrics) {
    table.columns.push_back(metric);
    if (format == "csv") table.columns.insert(table.columns.end(), {metric + "_low", metric + "_high"});
  }
  for (const char* column : {"parameters", "state_bytes", "tokens_per_second"}) table.columns.emplace_back(column);
  for (const RunGroup& group : groups) {
    std::vector<std::string> row;
    for (const Value& value : group.values) {
      const std::string text = value.is_null() ? "" : text_of(value);
      row.push_back(format == "csv" ? text : bare_list(text));
    }
    const RunRecord& first = group.runs.front()->record;
    row.insert(row.end(), {fmt::format("{}", group.runs.size()), to_string(first.state), steps_text(group)});
    for (const std::string& metric : metrics) {
      if (lacks(group, metric)) {
        row.insert(row.end(), format == "csv" ? 3 : 1, format == "csv" ? "" : "-");
        continue;
      }
      const std::vector<double> values = group.metric(metric);
      if (format != "csv") {
        row.push_back(estimate_text(values, metric));
        continue;
      }
      const Interval interval = values.size() > 1 ? interval_of(values, metric) : Interval{};
      row.push_back(fmt::format("{:.6f}", mean_of(values)));
      for (const double end : {interval.low, interval.high}) {
        row.push_back(values.size() > 1 ? fmt::format("{:.6f}", end) : "");
      }
    }
    row.push_back(fmt::format("{}", first.parameters));
    row.push_back(fmt::format("{}", first.state_bytes));
    row.push_back(fmt::format("{:.0f}", estimate(group.metric("tokens_per_second")).mean));
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::string markdown(const Table& table) {
  const auto line = [](const std::vector<std::string>& cells) { return "| " + join(cells, " | ") + " |\n"; };
  std::string text = line(table.columns);
  text += "|" + join(std::vector<std::string>(table.columns.size(), "---"), "|") + "|\n";
  for (const auto& row : table.rows) text += line(row);
  return text;
}

// Escapes LaTeX's special characters.
std::string latex_cell(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '_' || c == '%' || c == '&' || c == '#' ? std::string{'\\', c} : std::string{c};
  return out;
}

std::string latex(const Table& table) {
  const auto line = [](const std::vector<std::string>& cells) {
    std::vector<std::string> escaped;
    for (const std::string& cell : cells) escaped.push_back(latex_cell(cell));
    return "  " + join(escaped, " & ") + " \\\\\n";
  };
  std::string text = "% needs \\usepackage{booktabs}\n\\begin{tabular}{" + std::string(table.columns.size(), 'l') +
                     "}\n  \\toprule\n" + line(table.columns) + "  \\midrule\n";
  for (const auto& row : table.rows) text += line(row);
  return text + "  \\bottomrule\n\\end{tabular}\n";
}

std::string written(const Table& table, const std::string& format, const Globals& globals) {
  if (format == "markdown") return markdown(table);
  if (format == "latex") return latex(table);
  if (format == "csv") return CsvTable{provenance(globals.command_line, 1), table.columns, table.rows}.text();
  return format_table(table.columns, table.rows);
}

bool finished(const RunGroup& group) { return group.runs.front()->record.state == RunState::finished; }

// The groups with the best value of a key. Results of runs that did not finish decide only where no other has.
std::vector<RunGroup> best_only(const std::vector<RunGroup>& groups, const std::vector<std::string>& keys,
                                const std::string& key, const std::string& metric) {
  const auto place = std::find(keys.begin(), keys.end(), key) - keys.begin();
  const auto others = [&](const RunGroup& group) {
    std::vector<Value> values = group.values;
    values.erase(values.begin() + place);
    return group_name(values);
  };
  std::set<std::string> decided, chosen;
  for (const RunGroup& group : groups) {
    if (finished(group)) decided.insert(others(group));
  }
  std::vector<RunGroup> candidates = groups;
  std::erase_if(candidates, [&](const RunGroup& group) { return !finished(group) && decided.contains(others(group)); });
  for (const RunGroup& group : best_over(candidates, keys, key, metric)) chosen.insert(group_name(group.values));
  std::vector<RunGroup> best = groups;
  std::erase_if(best, [&](const RunGroup& group) { return !chosen.contains(group_name(group.values)); });
  return best;
}

// "lr=0.01 seed=3".
std::string settings_of(const RunSummary& run, const std::vector<std::string>& keys) {
  std::vector<std::string> words;
  for (const std::string& key : keys) {
    const Value value = run.field(key);
    if (!value.is_null()) words.push_back(key.substr(key.rfind('.') + 1) + "=" + bare_list(text_of(value)));
  }
  return join(words, " ");
}

void tell_what_is_not_shown(const RunSet& set, std::vector<std::string> keys) {
  if (set.shared > 0) fmt::print(stderr, "klab: {} runs are in several places and count once\n", set.shared);
  if (set.missing.empty()) return;
  fmt::print(stderr, "klab: {} runs are not in the table, because they have not been evaluated:\n", set.missing.size());
  keys.emplace_back("train.seed");
  for (size_t i = 0; i < std::min(set.missing.size(), kMostMissing); ++i) {
    const RunSummary& run = set.missing[i];
    const std::string reason = run.record.reason.substr(0, run.record.reason.find('\n'));
    print_message("  {} ({}): {} at step {}{}", run.folder, settings_of(run, keys), to_string(run.record.state),
                  run.record.step, reason.empty() ? "" : ": " + reason);
  }
  if (set.missing.size() > kMostMissing) fmt::print(stderr, "  and {} more\n", set.missing.size() - kMostMissing);
}

int compare(const CompareOptions& options, const Globals& globals) {
  const std::vector<std::string> metrics = split(options.metrics, ',');
  RunRecord any;
  any.tested = true;
  for (const std::string& metric : metrics) metric_of(any, metric);  // rejects unknown metrics before reading anything
  const RunSet set = summarise_all(options.folders);
  const std::vector<std::string> keys = differing_keys(set.runs, set.missing);
  std::vector<RunGroup> groups = split_by_end(grouped(set.runs, keys));
  if (!options.best.empty()) {
    if (std::find(keys.begin(), keys.end(), options.best) == keys.end()) {
      refuse("--best {}: the runs do not differ in this key{}. They differ in: {}", options.best,
             did_you_mean(options.best, keys), join(keys));
    }
    groups = best_only(groups, keys, options.best, metrics.front());
  }
  const std::string text = written(comparison_table(groups, keys, metrics, options.format), options.format, globals);
  if (globals.out.empty()) {
    fmt::print("{}", text);
  } else {
    write_file(globals.out, text);
  }
  std::fflush(stdout);
  tell_what_is_not_shown(set, keys);
  return 0;
}

}  // namespace

Command compare_command() {
  return {
      "compare", "runs and sweeps as one table: means and 95 % intervals over seeds, and costs",
      "./klab compare sweeps/lr --best train.lr --format markdown", takes::out,
      [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
        auto options = std::make_shared<CompareOptions>();
        app.add_option("RUN", options->folders, "folders of runs or sweeps").required();
        app.add_option("--metrics", options->metrics, "columns of results.csv; --best uses the first").show_default();
        app.add_option("--best", options->best,
                       "key such as train.lr: show only the best of the runs that differ only in it");
        app.add_option("--format", options->format, "text, markdown, csv or latex")
            .one_of({"text", "markdown", "csv", "latex"})
            .show_default();
        return [options, &globals] { return compare(*options, globals); };
      }};
}

}  // namespace klab
