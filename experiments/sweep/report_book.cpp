// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/report_book.h"

#include "core/base/csv.h"

namespace klab {
namespace {

bool covers(const Reports& reports, size_t rung) { return reports.over || reports.values.size() > rung; }

}  // namespace

const std::vector<Reports>& ReportBook::for_judging(size_t run, size_t rung) {
  if (!has_told(run, rung)) return book_;
  Settled& settled = settled_[run];
  if (settled.rung != rung) settled = {rung, 0};
  const std::string& group = plan_.runs[run].group;
  while (settled.runs < run && (plan_.runs[settled.runs].group != group || has_told(settled.runs, rung))) {
    ++settled.runs;
  }
  return book_;
}

bool ReportBook::has_told(size_t run, size_t rung) {
  if (!covers(book_[run], rung)) read(run);
  return covers(book_[run], rung);
}

void ReportBook::read(size_t i) {
  const RunFolder run = folder_.run(plan_.runs[i].id);
  const std::pair stamps{stamp_of(run.record()), stamp_of(run.metrics())};
  if (stamps == seen_[i]) return;
  const RunState state = read_record(run).state;  // before metrics.csv, which may only grow after it
  if (stamps.second != FileStamp{}) book_[i].values = rung_values(run.metrics());
  book_[i].over = is_over(state);
  seen_[i] = stamps;
}

std::vector<double> ReportBook::rung_values(const std::string& path) const {
  const CsvTable table = read_csv(path);
  const size_t step = table.column("step"), split = table.column("split"), metric = table.column(plan_.halving->metric);
  const std::vector<int64_t>& steps = plan_.halving->steps;
  std::vector<double> values;
  for (const auto& row : table.rows) {
    if (row[split] == "validation" && values.size() < steps.size() && std::stoll(row[step]) == steps[values.size()]) {
      values.push_back(std::stod(row[metric]));
    }
  }
  return values;
}

}  // namespace klab
