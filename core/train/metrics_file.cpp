// SPDX-License-Identifier: Apache-2.0
#include "core/train/metrics_file.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string_view>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/text.h"

namespace klab {
namespace {

using Cells = std::vector<std::string>;

// Whether a row stays in the file of a run that goes on after `step`.
class KeptRows {
 public:
  KeptRows(const Cells& columns, int64_t step, const std::string& path)
      : step_column_(column(columns, "step")), split_column_(column(columns, "split")), step_(step), path_(path) {}

  bool operator()(const Cells& row) const {
    if (row.size() <= std::max(step_column_, split_column_)) refuse("{}: a row of {} cells", path_, row.size());
    const std::string& cell = row[step_column_];
    int64_t step = 0;
    const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), step);
    if (error != std::errc() || end != cell.data() + cell.size()) {
      refuse("{}: '{}' in column step is not a whole number", path_, cell);
    }
    return step <= step_ && row[split_column_] != "test";
  }

 private:
  static size_t column(const Cells& columns, const char* name) { return CsvTable{{}, columns, {}}.column(name); }

  size_t step_column_, split_column_;
  int64_t step_;
  const std::string& path_;
};

// The complete lines; a power failure can leave an incomplete last row.
std::string_view complete_lines(std::string_view text) { return text.substr(0, text.rfind('\n') + 1); }

// The line that begins at `begin`, without its end.
std::string line_at(std::string_view text, size_t begin) {
  return std::string(text.substr(begin, text.find('\n', begin) - begin));
}

// The end of the header row, if the file has these columns; else 0.
size_t end_of_header(std::string_view text, const Cells& columns, const std::string& path) {
  size_t begin = 0;
  while (begin < text.size() && text[begin] == '#') begin = text.find('\n', begin) + 1;
  if (begin >= text.size()) return 0;
  const std::string line = line_at(text, begin);
  return csv_cells(line, path) == columns ? begin + line.size() + 1 : 0;
}

// Removes the rows that are not kept, which are the last ones: rows are in the order of their steps. False if the file
// has other columns.
bool cut(const std::string& path, const Cells& columns, int64_t step) {
  size_t header = 0;
  {
    const MappedFile file(path);
    header = end_of_header(complete_lines(file.bytes()), columns, path);
  }
  if (header == 0) return false;
  const KeptRows keeps(columns, step, path);
  drop_last_lines(path, header, [&](const std::string& line) { return line.empty() || !keeps(csv_cells(line, path)); });
  return true;
}

// The table of a file of an earlier version, with the new columns.
CsvTable widened(const std::string& path, const Cells& columns, int64_t step) {
  const std::string content = read_file(path);
  if (!content.ends_with('\n')) write_file(path, complete_lines(content));
  CsvTable table = read_csv(path);
  const KeptRows keeps(table.columns, step, path);
  std::erase_if(table.rows, [&](const Cells& row) { return !keeps(row); });
  for (size_t i = table.columns.size(); i < columns.size(); ++i) {
    table.columns.push_back(columns[i]);
    for (auto& row : table.rows) row.emplace_back();
  }
  if (table.columns != columns) {
    refuse("{}: the columns are {}, but those of the run are {}", path, join(table.columns), join(columns));
  }
  return table;
}

}  // namespace

std::unique_ptr<CsvWriter> open_metrics(const RunFolder& folder, const std::vector<std::string>& provenance,
                                        const std::vector<std::string>& columns, bool resume, int64_t step) {
  make_writable_folder(folder.path + "/checkpoint");
  const std::string path = folder.metrics();
  if (!resume || !std::filesystem::exists(path)) {
    return std::make_unique<CsvWriter>(path, CsvTable{provenance, columns, {}});
  }
  if (cut(path, columns, step)) return std::make_unique<CsvWriter>(path, columns.size());
  return std::make_unique<CsvWriter>(path, widened(path, columns, step));
}

}  // namespace klab
