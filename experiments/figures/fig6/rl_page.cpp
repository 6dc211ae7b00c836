// SPDX-License-Identifier: Apache-2.0
#include "experiments/figures/fig6/rl_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "experiments/study/bounded_mean.h"
#include "experiments/study/study.h"

namespace klab {
namespace {

using Lines = std::vector<std::string>;
using Group = std::pair<std::string, std::string>;     // label, rl.ptx_weight
using Curve = std::map<int64_t, std::vector<double>>;  // accuracies of the seeds by iteration
constexpr size_t kMostColumns = 10;

const std::vector<std::string> kCopied = {"step", "split", "accuracy", "reward", "kl", "entropy", "length"};

// Accuracies that the report shows, in percent, read off its figure.
const std::map<int64_t, std::pair<double, double>>& published() {
  static const std::map<int64_t, std::pair<double, double>> all = {
      {0, {22.0, 21.5}},  {20, {40.6, 36.7}},  {40, {46.9, 39.6}},  {60, {51.8, 48.1}},
      {80, {52.9, 48.6}}, {100, {56.1, 50.4}}, {112, {59.0, 52.5}},
  };
  return all;
}

std::map<Group, Curve> curves(const CsvTable& table, const std::string& split) {
  const size_t label = table.column("label"), ptx = table.column("rl.ptx_weight"), step = table.column("step"),
               of = table.column("split"), accuracy = table.column("accuracy");
  std::map<Group, Curve> all;
  for (const auto& row : table.rows) {
    if (row[of] == split) all[{row[label], row[ptx]}][std::stoll(row[step])].push_back(std::stod(row[accuracy]));
  }
  return all;
}

std::string percent(const std::vector<double>& accuracies) {
  const Interval interval = mean_interval(accuracies, {0, 1});
  return fmt::format("{:.1f} [{:.1f}, {:.1f}]", 100 * mean_of(accuracies), 100 * interval.low, 100 * interval.high);
}

// Some of the iterations, evenly spaced, with the first and the last.
std::vector<int64_t> shown(const Curve& curve) {
  std::vector<int64_t> all, some;
  for (const auto& [step, accuracies] : curve) all.push_back(step);
  const size_t columns = std::min(all.size(), kMostColumns);
  for (size_t i = 0; i < columns; ++i) some.push_back(all[columns == 1 ? 0 : i * (all.size() - 1) / (columns - 1)]);
  return some;
}

Lines held_out_lines(const CsvTable& table) {
  const std::map<Group, Curve> all = curves(table, "validation");
  if (all.empty()) return {};
  Lines lines{"", "## Accuracy of greedy answers on validation prompts, %", ""};
  std::string head = "| | rl.ptx_weight |", rule = "|---|---|";
  const std::vector<int64_t> steps = shown(all.begin()->second);
  for (const int64_t step : steps) {
    head += fmt::format(" {} |", step);
    rule += "---|";
  }
  lines.insert(lines.end(), {head, rule});
  for (const auto& [group, curve] : all) {
    std::string row = fmt::format("| {} | {} |", group.first, group.second);
    for (const int64_t step : steps) {
      const auto found = curve.find(step);
      row += found == curve.end() ? " - |" : fmt::format(" {:.1f} |", 100 * mean_of(found->second));
    }
    lines.push_back(row);
  }
  std::string kimi = "Read off the report's figure (another model, other tasks), iteration: Kimi Linear / MLA:";
  for (const auto& [step, accuracies] : published()) {
    kimi += fmt::format(" {}: {:.1f} / {:.1f};", step, accuracies.first, accuracies.second);
  }
  kimi.back() = '.';
  lines.insert(lines.end(), {"", "Means over seeds. " + kimi});
  return lines;
}

Lines forgetting_lines(const CsvTable& table) {
  const std::map<Group, Curve> all = curves(table, "supervised");
  if (all.empty()) return {};
  Lines lines{"", "## Accuracy on the supervised tasks, %", "", "| | rl.ptx_weight | before | after | seeds |",
              "|---|---|---|---|---|"};
  for (const auto& [group, curve] : all) {
    lines.push_back(fmt::format("| {} | {} | {} | {} | {} |", group.first, group.second, percent(curve.begin()->second),
                                percent(curve.rbegin()->second), curve.rbegin()->second.size()));
  }
  lines.insert(lines.end(), {"",
                             "Means over seeds with 95 % intervals that assume nothing about the distribution "
                             "(they are wide for a few seeds)."});
  return lines;
}

}  // namespace

CsvTable iterations_table(const std::vector<RunSummary>& runs) {
  CsvTable table{{}, {"label", "rl.ptx_weight", "train.seed"}, {}};
  table.columns.insert(table.columns.end(), kCopied.begin(), kCopied.end());
  for (const RunSummary& run : runs) {
    const CsvTable metrics = read_csv(RunFolder{run.folder}.metrics());
    for (const auto& row : metrics.rows) {
      std::vector<std::string> cells{short_text(run.field("label")), short_text(run.field("rl.ptx_weight")),
                                     short_text(run.field("train.seed"))};
      for (const std::string& column : kCopied) cells.push_back(row[metrics.column(column)]);
      table.rows.push_back(std::move(cells));
    }
  }
  return table;
}

Lines rl_lines(const CsvTable& iterations) {
  Lines lines = held_out_lines(iterations);
  const Lines more = forgetting_lines(iterations);
  lines.insert(lines.end(), more.begin(), more.end());
  return lines;
}

}  // namespace klab
