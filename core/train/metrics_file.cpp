// SPDX-License-Identifier: Apache-2.0
#include "core/train/metrics_file.h"

#include <filesystem>

#include "core/base/file.h"

namespace klab {

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
    std::erase_if(table.rows, [&](const auto& row) { return std::stoll(row[steps]) > step || row[split] == "test"; });
  }
  return std::make_unique<CsvWriter>(folder.metrics(), table);
}

}  // namespace klab
