// SPDX-License-Identifier: Apache-2.0
// The results of a sweep as CSV files and as a table.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/base/table.h"
#include "core/base/text.h"
#include "experiments/sweep/sweep.h"

namespace klab {
namespace {

CsvTable results_of(const SweepOutcome& outcome, const std::vector<std::string>& provenance) {
  CsvTable table{provenance, {"run"}, {}};
  table.columns.insert(table.columns.end(), outcome.plan.keys.begin(), outcome.plan.keys.end());
  for (const char* column : {"state",
                             "reason",
                             "step",
                             "loss",
                             "acc_tok",
                             "acc_seq",
                             "best_step",
                             "best_loss",
                             "best_acc_tok",
                             "best_acc_seq",
                             "test_loss",
                             "test_acc_tok",
                             "test_acc_seq",
                             "best_test_loss",
                             "best_test_acc_tok",
                             "best_test_acc_seq",
                             "parameters",
                             "state_bytes",
                             "tokens_per_second",
                             "seconds"}) {
    table.columns.emplace_back(column);
  }
  for (const size_t i : outcome.plan.in_file_order()) {
    const RunRecord& r = outcome.records[i];
    std::vector<std::string> row{outcome.plan.runs[i].id};
    row.insert(row.end(), outcome.plan.runs[i].values.begin(), outcome.plan.runs[i].values.end());
    const auto score = [&](double x) { return r.evaluated ? fmt::format("{:.6f}", x) : std::string(); };
    const auto tested = [&](double x) { return r.tested ? fmt::format("{:.6f}", x) : std::string(); };
    std::string reason = r.reason;
    std::replace(reason.begin(), reason.end(), '\n', ' ');
    for (const std::string& cell : {to_string(r.state),
                                    reason,
                                    fmt::format("{}", r.step),
                                    score(r.last.loss),
                                    score(r.last.acc_tok),
                                    score(r.last.acc_seq),
                                    r.evaluated ? fmt::format("{}", r.best_step) : "",
                                    score(r.best.loss),
                                    score(r.best.acc_tok),
                                    score(r.best.acc_seq),
                                    tested(r.test.loss),
                                    tested(r.test.acc_tok),
                                    tested(r.test.acc_seq),
                                    tested(r.best_test.loss),
                                    tested(r.best_test.acc_tok),
                                    tested(r.best_test.acc_seq),
                                    fmt::format("{}", r.parameters),
                                    fmt::format("{}", r.state_bytes),
                                    fmt::format("{:.0f}", r.tokens_per_second),
                                    fmt::format("{:.1f}", r.seconds)}) {
      row.push_back(cell);
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

// Writes the rows of one file of every run that satisfy `wanted`, prefixed by the keys in which the runs differ; no
// file if there is none. Run by run, because all of them may need much memory.
template <class Wanted>
void write_joined(const std::string& path, const SweepFolder& folder, const SweepOutcome& outcome,
                  const std::vector<std::string>& provenance, const char* file, const Wanted& wanted) {
  NewFile all(path);
  bool begun = false;
  for (const size_t i : outcome.plan.in_file_order()) {
    const PlannedRun& run = outcome.plan.runs[i];
    const std::string part = folder.run(run.id).path + "/" + file;
    if (!std::filesystem::exists(part)) continue;
    const CsvTable table = read_csv(part);
    std::string text;
    for (const auto& row : table.rows) {
      if (!wanted(table, row)) continue;
      std::vector<std::string> cells = run.values;
      cells.insert(cells.end(), row.begin(), row.end());
      text += csv_line(cells);
    }
    if (text.empty()) continue;
    if (!begun) {
      std::vector<std::string> columns = outcome.plan.keys;
      columns.insert(columns.end(), table.columns.begin(), table.columns.end());
      all.write(CsvTable{provenance, columns, {}}.text());
      begun = true;
    }
    all.write(text);
  }
  if (begun) all.commit();
}

}  // namespace

void write_results(const SweepFolder& folder, const SweepOutcome& outcome, const std::vector<std::string>& provenance) {
  write_file(folder.results(), results_of(outcome, provenance).text());
  const auto held_out = [](const CsvTable& table, const auto& row) { return row[table.column("split")] != "train"; };
  write_joined(folder.curves(), folder, outcome, provenance, "metrics.csv", held_out);
  const auto every = [](const CsvTable&, const auto&) { return true; };
  write_joined(folder.evaluations(), folder, outcome, provenance, "evaluations.csv", every);
}

std::string table_of(const SweepOutcome& outcome, size_t most) {
  std::vector<size_t> order = outcome.plan.in_file_order();
  if (order.size() > most) {  // then only the best
    std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) {
      const RunRecord &a = outcome.records[x], &b = outcome.records[y];
      return a.evaluated && (!b.evaluated || better(a.best, b.best));
    });
    order.resize(most);
  }
  std::vector<std::string> headers;
  for (const std::string& key : outcome.plan.keys) headers.push_back(key.substr(key.rfind('.') + 1));
  for (const char* header : {"step", "loss", "acc_tok", "acc_seq", "best acc_seq", "state"})
    headers.emplace_back(header);
  std::vector<std::vector<std::string>> rows;
  for (const size_t i : order) {
    const RunRecord& r = outcome.records[i];
    std::vector<std::string> row;
    for (const std::string& value : outcome.plan.runs[i].values) row.push_back(bare_list(value));
    const auto score = [&](double x) { return r.evaluated ? fmt::format("{:.3f}", x) : std::string("-"); };
    for (const std::string& cell : {fmt::format("{}", r.step), score(r.last.loss), score(r.last.acc_tok),
                                    score(r.last.acc_seq), score(r.best.acc_seq), to_string(r.state)}) {
      row.push_back(cell);
    }
    rows.push_back(std::move(row));
  }
  return format_table(headers, rows);
}

}  // namespace klab
