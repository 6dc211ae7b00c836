// SPDX-License-Identifier: Apache-2.0
// CSV files with a comment header ('# key: value' lines) that records the provenance of the numbers. Cells with a
// comma, a quote, a leading '#' or outer whitespace are in double quotes; cells cannot contain line breaks.
#pragma once

#include <string>
#include <vector>

#include "core/base/file.h"

namespace klab {

/// A CSV file in memory: rows of text under named columns.
struct CsvTable {
  std::vector<std::string> comments;  ///< without the leading "# "
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;

  /// The index of a column. Throws UsageError, which lists the columns, for an unknown name.
  size_t column(const std::string& name) const;
  bool has(const std::string& name) const;
  std::string text() const;
};

/// Reads a whole file; a byte-order mark at its beginning is skipped. Throws Error (unreadable), or UsageError with the
/// line (no header row, a row of another width, an unclosed quote).
CsvTable read_csv(const std::string& path);

/// A row as its line in a file, and back; `path` is the file's name in messages. Throw as CsvWriter and read_csv().
std::string csv_line(const std::vector<std::string>& cells);
std::vector<std::string> csv_cells(const std::string& line, const std::string& path);

/// Appends rows to a file; each row is in the file when `row` returns, and on the disk when `sync` returns.
class CsvWriter {
 public:
  /// Creates the file with the content of `table`, atomically; row() appends to it.
  CsvWriter(const std::string& path, const CsvTable& table);
  /// Appends to a file that exists, whose rows have this number of cells.
  CsvWriter(const std::string& path, size_t width);

  /// Throws Error for a row of another width or a line break in a cell, and then writes nothing.
  void row(const std::vector<std::string>& cells);
  void sync() { file_.sync(); }

 private:
  std::string path_;
  size_t width_;
  AppendedFile file_;
};

}  // namespace klab
