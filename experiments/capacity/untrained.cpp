// SPDX-License-Identifier: Apache-2.0
#include "experiments/capacity/untrained.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <mutex>
#include <numeric>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/base/random.h"
#include "core/base/table.h"
#include "core/base/text.h"
#include "experiments/capacity/gate_search.h"
#include "experiments/capacity/recall.h"
#include "experiments/capacity/theory.h"
#include "kernels/common/cpu/workers.h"

namespace klab {
namespace {

constexpr int64_t kSearched = 600, kReported = 4000;  // pairs over all trials of a cell, at least
constexpr double kRecalled = 0.99;
constexpr const char* kLeastSquares = "least squares";

struct Cell {
  Scenario scenario;
  int64_t key_dim, pairs;
};

int64_t trials_for(int64_t total, int64_t pairs) { return std::max<int64_t>(8, (total + pairs - 1) / pairs); }

Pairs draw_cell(const Cell& cell, Purpose purpose, uint64_t seed) {
  const int64_t total = purpose == Purpose::search ? kSearched : kReported;
  return draw_pairs(cell.scenario, trials_for(total, cell.pairs), cell.pairs, cell.key_dim,
                    cell_key(purpose, cell.scenario, cell.key_dim, cell.pairs, seed));
}

std::optional<double> theory_of(const Cell& cell, const ConstantGates& gates) {
  const bool per_channel = gates.half_life != gates.half_life_last || gates.erase != gates.erase_last;
  if (cell.scenario != Scenario::plain || per_channel) return {};
  return expected_recovered(std::exp2(-1 / gates.half_life), gates.erase, cell.pairs, cell.key_dim, kVocabulary);
}

CapacityPoint least_squares_point(const Cell& cell, const Pairs& reported) {
  CapacityPoint point{kLeastSquares, "", cell.scenario, cell.key_dim, cell.pairs, 0, {}, {}, reported.keys.size(0)};
  point.recovered = recall(least_squares_states(reported), reported).front().share;
  // In every scenario the state holds the pairs that are asked for, once.
  point.theory = expected_recovered_by_least_squares(cell.pairs, cell.key_dim, kVocabulary);
  return point;
}

std::vector<CapacityPoint> measure_cell(const Cell& cell, const std::vector<UpdateRule>& rules, uint64_t seed) {
  const Pairs searched = draw_cell(cell, Purpose::search, seed), reported = draw_cell(cell, Purpose::report, seed);
  std::vector<CapacityPoint> points;
  ConstantGates gates;
  for (const UpdateRule& rule : rules) {
    if (!rule.extends_previous) gates = start_of(rule);
    gates = best_gates(rule, gates, searched);
    points.push_back({rule.name, join(rule.mixers, " "), cell.scenario, cell.key_dim, cell.pairs,
                      recall(written_states(rule, {gates}, reported), reported).front().share, theory_of(cell, gates),
                      gates, reported.keys.size(0)});
  }
  points.push_back(least_squares_point(cell, reported));
  return points;
}

// Calls measure(i) for every cell, one thread per cell, the largest widths first.
void for_each_cell(const std::vector<Cell>& cells, bool quiet, const std::function<void(size_t)>& measure) {
  std::vector<size_t> order(cells.size());
  std::iota(order.begin(), order.end(), 0);
  const auto work = [&](size_t i) { return cells[i].key_dim * cells[i].key_dim * cells[i].pairs; };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return work(a) > work(b); });
  Progress progress("capacity", static_cast<int64_t>(cells.size()), 0, quiet);
  std::mutex mutex;
  int64_t done = 0;
  // Operators that are called inside of a parallel region use one thread.
  kernels::cpu::run_tasks(static_cast<int64_t>(order.size()), [&](int64_t i) {
    if (interrupt_requested() != 0) return;
    measure(order[static_cast<size_t>(i)]);
    const std::lock_guard lock(mutex);
    progress.update(++done, "");
  });
  if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted: nothing was written");
}

// The distinct numbers of pairs at a width, ascending.
std::vector<int64_t> pairs_of(const std::vector<double>& loads, int64_t width) {
  std::vector<int64_t> pairs;
  for (const double load : loads) {
    pairs.push_back(std::max<int64_t>(1, std::llround(load * static_cast<double>(width))));
  }
  std::sort(pairs.begin(), pairs.end());
  pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
  return pairs;
}

void check(const UntrainedOptions& options) {
  for (const int64_t width : options.widths) {
    if (width < 4 || width > 256) refuse("widths: {} must lie in 4 to 256 with --untrained", width);
  }
  for (const double load : options.loads) {
    if (!(load > 0 && load <= 16)) refuse("loads: {} must lie in (0, 16] with --untrained", load);
  }
}

std::string half_life_text(double tokens) { return std::isinf(tokens) ? "" : fmt::format("{}", tokens); }

// The points of one update rule in a scenario, by width.
using Curves = std::vector<std::pair<int64_t, std::vector<CapacityPoint>>>;

Curves curves_of(const std::vector<CapacityPoint>& points, Scenario scenario, const std::string& update) {
  Curves curves;
  for (const CapacityPoint& point : points) {
    if (point.scenario != scenario || point.update != update) continue;
    if (curves.empty() || curves.back().first != point.key_dim) curves.push_back({point.key_dim, {}});
    curves.back().second.push_back(point);
  }
  return curves;
}

}  // namespace

uint64_t cell_key(Purpose purpose, Scenario scenario, int64_t key_dim, int64_t pairs, uint64_t seed) {
  return Random({seed, static_cast<uint64_t>(purpose), static_cast<uint64_t>(scenario), static_cast<uint64_t>(key_dim),
                 static_cast<uint64_t>(pairs)})
      .next();
}

std::vector<CapacityPoint> measure_untrained(const UntrainedOptions& options) {
  check(options);
  const std::vector<UpdateRule> rules = update_rules_of(options.mixer);
  std::vector<int64_t> widths = options.widths;
  std::sort(widths.begin(), widths.end());
  widths.erase(std::unique(widths.begin(), widths.end()), widths.end());
  std::vector<Cell> cells;
  for (const Scenario scenario : kScenarios) {
    for (const int64_t width : widths) {
      for (const int64_t pairs : pairs_of(options.loads, width)) cells.push_back({scenario, width, pairs});
    }
  }
  std::vector<std::vector<CapacityPoint>> results(cells.size());
  for_each_cell(cells, options.quiet, [&](size_t i) { results[i] = measure_cell(cells[i], rules, options.seed); });
  std::vector<CapacityPoint> points;
  for (const auto& result : results) points.insert(points.end(), result.begin(), result.end());
  return points;
}

CsvTable table_of(const std::vector<CapacityPoint>& points) {
  CsvTable table;
  table.columns = {"update",    "key_dim",        "pairs", "recovered", "scenario", "theory",
                   "half_life", "half_life_last", "beta",  "beta_last", "trials",   "mixers"};
  for (const CapacityPoint& point : points) {
    const ConstantGates gates = point.gates.value_or(ConstantGates());
    const auto beta = [](double erase) { return erase > 0 ? fmt::format("{}", erase) : ""; };
    table.rows.push_back({point.update, fmt::format("{}", point.key_dim), fmt::format("{}", point.pairs),
                          fmt::format("{:.4f}", point.recovered), to_string(point.scenario),
                          point.theory ? fmt::format("{:.4f}", *point.theory) : "", half_life_text(gates.half_life),
                          half_life_text(gates.half_life_last), beta(gates.erase), beta(gates.erase_last),
                          fmt::format("{}", point.trials), point.mixers});
  }
  return table;
}

std::string pairs_at(const std::vector<CapacityPoint>& points, double share) {
  for (size_t i = 0; i < points.size(); ++i) {
    if (points[i].recovered >= share) continue;
    if (i == 0) return fmt::format("< {}", points[0].pairs);
    const auto low = static_cast<double>(points[i - 1].pairs), high = static_cast<double>(points[i].pairs);
    const double part = (points[i - 1].recovered - share) / (points[i - 1].recovered - points[i].recovered);
    return fmt::format("{:.1f}", low + part * (high - low));
  }
  return fmt::format(">= {}", points.back().pairs);
}

std::string summary_of(const std::vector<CapacityPoint>& points) {
  std::string text;
  for (const Scenario scenario : kScenarios) {
    std::vector<std::string> headers = {to_string(scenario), "mixers"}, seen;
    std::vector<std::vector<std::string>> rows;
    for (const CapacityPoint& point : points) {
      if (point.scenario != scenario || std::find(seen.begin(), seen.end(), point.update) != seen.end()) continue;
      seen.push_back(point.update);
      auto& row = rows.emplace_back(std::vector<std::string>{point.update, point.mixers});
      for (const auto& [width, curve] : curves_of(points, scenario, point.update)) {
        if (rows.size() == 1) headers.push_back(fmt::format("K = {}", width));
        row.push_back(pairs_at(curve, kRecalled));
      }
    }
    text += format_table(headers, rows) + "\n";
  }
  return text + fmt::format("pairs at {:.0f} % recovered, over widths of key and value\n", 100 * kRecalled);
}

}  // namespace klab
