// SPDX-License-Identifier: Apache-2.0
// Draws CSV results as PNG or SVG through gnuplot.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace klab {

/// What to draw. Empty fields have defaults that depend on the columns, described at each field.
struct PlotOptions {
  /// CSV files, drawn into one picture.
  std::vector<std::string> files;
  /// Default: step, else the first numeric column that varies, else the first text column that varies. A text column
  /// gives a bar chart.
  std::string x;
  /// Default: acc_seq, else loss, else the last numeric column.
  std::string y;
  /// Selects rows by the column `split`, if there is one. Default: validation, or else test, if there are such rows
  /// with values of y.
  /// "all": every row.
  std::string split;
  /// "task.name=mqar": only rows with that value. Several conditions must all hold.
  std::vector<std::string> where;
  /// A column drawn as colour over x and y, which must then be given: one heat map per group, with the mean of the rows
  /// of each cell.
  std::string heat;
  /// Draws bars for a numeric x too.
  bool bars = false;
  /// "power": fits factor x^exponent to the points of each group, with logarithmic axes.
  std::string fit;
  /// Columns that define a curve, "mixer,lr"; `run` is the file's folder. Default: those that vary. "none": one
  /// curve. Rows with the same curve and x (seeds) are drawn as their mean, with a thin line or a dot for every seed
  /// (up to 30), else with a band from the lowest to the highest; over steps, the mean keeps the last value of a run
  /// that ended early.
  std::string group_by;
  /// The output file, .png or .svg.
  std::string out;
  std::string title;
  /// Default: a readable name of the column.
  std::string x_label, y_label;
  /// x is also logarithmic if it has few values that grow by factors (lr, length).
  bool log_x = false, log_y = false;
  /// Pixels; text and lines scale with them.
  int64_t width = 1200, height = 750;
  double font_scale = 1.0;
};

/// Writes the picture to `out` atomically and returns a line of text for each fit. Throws UsageError for invalid
/// options or columns; Error that names file and row for cells that are neither empty nor finite numbers; Error if
/// gnuplot is missing or fails.
std::vector<std::string> plot(const PlotOptions& options);

}  // namespace klab
