// SPDX-License-Identifier: Apache-2.0
#include "core/train/metrics_file.h"

#include <charconv>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/text.h"

namespace klab {
namespace {

int64_t step_of(const std::string& cell, const std::string& path) {
  int64_t step = 0;
  const auto [end, status] = std::from_chars(cell.data(), cell.data() + cell.size(), step);
  if (status != std::errc{} || end != cell.data() + cell.size()) refuse("{}: the step '{}' is no number", path, cell);
  return step;
}

}  // namespace

std::unique_ptr<CsvWriter> open_metrics(const RunFolder& folder, const std::vector<std::string>& provenance,
                                        const std::vector<std::string>& columns, bool resume, int64_t step) {
  make_writable_folder(folder.path + "/checkpoint");
  CsvTable table{provenance, columns, {}};
  if (resume && std::filesystem::exists(folder.metrics())) {
    // A power failure can leave an incomplete last row.
    const std::string content = read_file(folder.metrics());
    if (!content.ends_with('\n')) write_file(folder.metrics(), content.substr(0, content.rfind('\n') + 1));
    table = read_csv(folder.metrics());
    const size_t steps = table.column("step"), split = table.column("split");
    for (size_t i = table.columns.size(); i < columns.size(); ++i) {
      table.columns.push_back(columns[i]);
      for (auto& row : table.rows) row.emplace_back();
    }
    if (table.columns != columns) {
      refuse("{}: the columns are {}, but those of the run are {}", folder.metrics(), join(table.columns),
             join(columns));
    }
    std::erase_if(table.rows, [&](const auto& row) {
      return step_of(row[steps], folder.metrics()) > step || row[split] == "test";
    });
  }
  return std::make_unique<CsvWriter>(folder.metrics(), table);
}

}  // namespace klab
