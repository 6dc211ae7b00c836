// Draws CSV results as PNG or SVG through gnuplot.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace klab {

/// What to draw. Every empty field is decided from the columns, see each.
struct PlotOptions {
  /// CSV files, drawn into one picture.
  std::vector<std::string> files;
  /// "": step, else the first column of numbers that varies, else one of texts. Texts along x make bars.
  std::string x;
  /// "": acc_seq, else loss, else the last column of numbers.
  std::string y;
  /// Which rows, where there is a column `split`. "": test when there is such a row. "all": every row.
  std::string split;
  /// "task.name=mqar": only rows with that cell; all of them must hold.
  std::vector<std::string> where;
  /// A column drawn as colour over x and y (both then by name): a heat map for each group, rows that share a place
  /// averaged.
  std::string heat;
  /// Numbers along x make bars too.
  bool bars = false;
  /// "power": through the points of each group the line factor x^exponent, both axes logarithmic.
  std::string fit;
  /// Columns that name a curve, "mixer,lr"; `run` is the file's folder. "": those that vary. "none": one
  /// curve. Rows that share curve and x (seeds) become their mean in a band from the lowest to the highest; over
  /// steps, a seed whose run ended stays at its last value.
  std::string group_by;
  /// The picture; .png or .svg says the format.
  std::string out;
  std::string title;
  /// "": the column's name in plain words.
  std::string x_label, y_label;
  /// x is also logarithmic where its values are few and grow by factors (lr, length).
  bool log_x = false, log_y = false;
  /// Pixels; text and lines grow with them.
  int64_t width = 1200, height = 750;
  double font_scale = 1.0;
};

/// Draws, and returns a line of text for each fit; `out` holds the whole new picture or what it held before. Throws
/// UsageError for options and columns that make no sense, and Error, naming file and row, for cells that are no finite
/// numbers, and when gnuplot is missing or fails.
std::vector<std::string> plot(const PlotOptions& options);

}  // namespace klab
