// SPDX-License-Identifier: Apache-2.0
// The data of a picture: its rows, and the choice of columns.
#pragma once

#include <limits>
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
  std::vector<Source> sources;  ///< one per row

  const std::string& cell(size_t row, size_t column) const { return table.rows[row][column]; }
  const std::string& name(size_t column) const { return table.columns[column]; }

  /// The distinct cells of a column, in order of appearance; the first `most` of them.
  std::vector<std::string> values(size_t column, size_t most = std::numeric_limits<size_t>::max()) const;
  /// The same, sorted if the column is numeric.
  std::vector<std::string> ordered_values(size_t column) const;
  bool varies(size_t column) const;
  /// Whether all non-empty cells are numbers, and there is at least one.
  bool is_numeric(size_t column) const;
  bool has_values(size_t column) const;
  /// The rows in which none of these columns is empty.
  PlotData with_values(const std::vector<size_t>& columns) const;
  /// A key that is equal for rows with equal cells in these columns.
  std::string key(size_t row, const std::vector<size_t>& columns) const;
};

/// Indices of the columns that are drawn.
struct PlotColumns {
  size_t x, y;
  std::vector<size_t> groups;  ///< columns that define the curves
  std::optional<size_t> seed;
};

constexpr size_t kMostCurves = 24;  ///< more cannot be distinguished

/// "train.lr" is "lr".
std::string last_part(const std::string& column);

/// The whole text as a number, also with a plus sign. "nan" is parsed too, so that it is reported as an error and not
/// treated as a name.
std::optional<double> parse_number(const std::string& text);

/// Sorts numeric texts by value.
void sort_as_numbers(std::vector<std::string>& texts);

/// The rows of the wanted split. Several files get a column `run`. Throws Error for a file without rows.
PlotData read_plot_data(const PlotOptions& options);

/// The columns named by the options, and the defaults of PlotOptions for the others.
PlotColumns choose_columns(const PlotData& all, const PlotOptions& options);

/// The rows that are points: an empty cell is none. Throws Error if there are no others.
PlotData plotted_rows(const PlotData& data, const PlotColumns& columns);

}  // namespace klab
