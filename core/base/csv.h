// CSV files with a comment header ('# key: value' lines) that says where the numbers come from. Cells that
// hold a comma, a quote or outer blanks stand in double quotes; a cell is one line.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace klab {

/// A CSV file in memory: rows of text under named columns.
struct CsvTable {
  std::vector<std::string> comments;  ///< without the leading "# "
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;

  /// Position of a column. Throws UsageError that lists the columns.
  size_t column(const std::string& name) const;
  bool has(const std::string& name) const;
  std::string text() const;
};

/// Reads a whole file. Throws Error (unreadable) or UsageError (no header row, a row of another width, an
/// open quote), with the line.
CsvTable read_csv(const std::string& path);

/// Appends rows to a file; each row is in the file when `row` returns, and on the disk when `sync` returns.
class CsvWriter {
 public:
  /// Starts a new file (written whole, then renamed), or goes on with the rows that `table` holds.
  CsvWriter(const std::string& path, const CsvTable& table);
  ~CsvWriter();
  CsvWriter(const CsvWriter&) = delete;
  CsvWriter& operator=(const CsvWriter&) = delete;

  /// Throws Error for a row of another width or a line break in a cell, and writes nothing of it.
  void row(const std::vector<std::string>& cells);
  void sync();

 private:
  std::string path_;
  size_t width_;
  std::FILE* file_;
};

}  // namespace klab
