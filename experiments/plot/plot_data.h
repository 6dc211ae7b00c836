// The rows that a picture is made of, and which of their columns are drawn.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/csv.h"

namespace klab {

struct PlotOptions;

/// The rows of one or more CSV files under the union of their columns.
struct PlotData {
  struct Source {
    std::string file;
    size_t row;  ///< 1 is the first below the header
  };

  CsvTable table;
  std::vector<Source> sources;  ///< of each row

  const std::string& cell(size_t row, size_t column) const { return table.rows[row][column]; }
  const std::string& name(size_t column) const { return table.columns[column]; }

  /// The distinct cells of a column, in the order in which they appear.
  std::vector<std::string> values(size_t column) const;
  /// The same in the order of their numbers, where they are numbers.
  std::vector<std::string> ordered_values(size_t column) const;
  bool varies(size_t column) const { return values(column).size() > 1; }
  /// Whether every cell that is not empty is a number, and there is one.
  bool is_numeric(size_t column) const;
  /// What rows have in common that agree in these columns.
  std::string key(size_t row, const std::vector<size_t>& columns) const;
};

/// Positions of the columns that are drawn.
struct PlotColumns {
  size_t x, y;
  std::vector<size_t> groups;  ///< they tell curves apart
  std::optional<size_t> seed;
};

constexpr size_t kMostCurves = 24;  ///< more cannot be told apart

/// "train.lr" is "lr".
std::string last_part(const std::string& column);

/// The whole text as a number. "nan" is one, so that it is reported, not taken for a name.
std::optional<double> parse_number(const std::string& text);

/// Texts that are numbers, into the order of the numbers.
void sort_as_numbers(std::vector<std::string>& texts);

/// The rows of the wanted split. Several files get a column `run`. Throws Error for a file without rows.
PlotData read_plot_data(const PlotOptions& options);

/// The columns that the options name, and for the rest those that PlotOptions promises.
PlotColumns choose_columns(const PlotData& data, const PlotOptions& options);

}  // namespace klab
