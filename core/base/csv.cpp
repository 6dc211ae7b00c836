// SPDX-License-Identifier: Apache-2.0
#include "core/base/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "core/base/error.h"
#include "core/base/text.h"

namespace klab {

bool CsvTable::has(const std::string& name) const {
  return std::find(columns.begin(), columns.end(), name) != columns.end();
}

size_t CsvTable::column(const std::string& name) const {
  const auto found = std::find(columns.begin(), columns.end(), name);
  if (found == columns.end()) {
    refuse("there is no column '{}'{} Columns: {}", name,
           nearest(name, columns).empty() ? "." : did_you_mean(name, columns), join(columns));
  }
  return static_cast<size_t>(found - columns.begin());
}

namespace {

// The text of a cell in the file: quoted, with inner quotes doubled, if it would be read differently without quotes.
std::string cell_text(const std::string& cell) {
  if (cell.find_first_of("\r\n") != std::string::npos) fail("a line break in the CSV cell '{}'", cell);
  const bool plain = cell.find_first_of(",\"") == std::string::npos && trimmed(cell) == cell && cell.rfind('#', 0) != 0;
  if (plain) return cell;
  std::string quoted = "\"";
  for (const char c : cell) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

// The place of a row in messages; line 0: the file alone.
struct CsvLine {
  const std::string& path;
  int64_t number;
  std::string text() const { return number > 0 ? fmt::format("{}, line {}", path, number) : path; }
};

// The quoted cell whose text begins at `at`; moves `at` to the separator after it or to the end.
std::string quoted_cell(const std::string& line, size_t& at, const CsvLine& where) {
  std::string cell;
  for (;; ++at) {
    if (at >= line.size()) refuse("{}: a quote is not closed", where.text());
    if (line[at] == '"' && line.compare(at, 2, "\"\"") != 0) break;
    if (line[at] == '"') ++at;
    cell += line[at];
  }
  at = std::min(line.find_first_not_of(" \t", at + 1), line.size());
  if (at < line.size() && line[at] != ',') refuse("{}: text after a closing quote", where.text());
  return cell;
}

std::vector<std::string> parse_row(const std::string& line, const CsvLine& where) {
  std::vector<std::string> cells;
  for (size_t at = 0;; ++at) {
    const size_t first = line.find_first_not_of(" \t", at);
    if (first != std::string::npos && line[first] == '"') {
      at = first + 1;
      cells.push_back(quoted_cell(line, at, where));
    } else {
      const size_t end = std::min(line.find(',', at), line.size());
      cells.emplace_back(trimmed(std::string_view(line).substr(at, end - at)));
      at = end;
    }
    if (at >= line.size()) return cells;
  }
}

}  // namespace

std::string csv_line(const std::vector<std::string>& cells) {
  if (cells.size() == 1 && cells[0].empty()) return "\"\"\n";  // an empty line would be skipped
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) line += (i > 0 ? "," : "") + cell_text(cells[i]);
  return line + "\n";
}

std::vector<std::string> csv_cells(const std::string& line, const std::string& path) {
  return parse_row(line, {path, 0});
}

std::string CsvTable::text() const {
  std::string out;
  for (const std::string& comment : comments) {
    std::istringstream lines(comment);
    for (std::string line; std::getline(lines, line);) out += "# " + line + "\n";
  }
  out += csv_line(columns);
  for (const auto& row : rows) out += csv_line(row);
  return out;
}

CsvTable read_csv(const std::string& path) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";  // some programs begin UTF-8 files with it
  std::istringstream file(read_file(path));
  CsvTable table;
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (number == 1 && line.starts_with(kByteOrderMark)) line.erase(0, kByteOrderMark.size());
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (trimmed(line).empty()) continue;
    if (line[0] == '#') {
      table.comments.push_back(line.substr(line.size() > 1 && line[1] == ' ' ? 2 : 1));
      continue;
    }
    const CsvLine where{path, number};
    std::vector<std::string> cells = parse_row(line, where);
    if (table.columns.empty()) {
      table.columns = std::move(cells);
    } else if (cells.size() != table.columns.size()) {
      refuse("{}: {} cells, but the header has {} columns", where.text(), cells.size(), table.columns.size());
    } else {
      table.rows.push_back(std::move(cells));
    }
  }
  if (table.columns.empty()) refuse("{}: not a CSV file: it has no header row", path);
  return table;
}

namespace {

// The path, under which the table is now.
const std::string& written(const std::string& path, const CsvTable& table) {
  write_file(path, table.text());
  return path;
}

}  // namespace

CsvWriter::CsvWriter(const std::string& path, const CsvTable& table)
    : path_(path), width_(table.columns.size()), file_(written(path, table)) {}

CsvWriter::CsvWriter(const std::string& path, size_t width) : path_(path), width_(width), file_(path) {}

void CsvWriter::row(const std::vector<std::string>& cells) {
  if (cells.size() != width_) fail("{}: a row of {} cells, but {} columns", path_, cells.size(), width_);
  file_.write(csv_line(cells));
}

}  // namespace klab
