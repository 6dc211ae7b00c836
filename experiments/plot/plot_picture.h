// SPDX-License-Identifier: Apache-2.0
// The content of a picture, independent of gnuplot: curves or bars, bands, axes and texts.
#pragma once

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "experiments/plot/plot_data.h"
#include "experiments/study/statistics.h"

namespace klab {

/// All rows of one curve at one x.
struct PlotPoint {
  double low = std::numeric_limits<double>::infinity(), high = -low, sum = 0;
  size_t count = 0;
  std::vector<double> rows;  ///< the values of the rows; runs that ended before are in the mean, not here

  double mean() const { return sum / static_cast<double>(count); }
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
    sum += value;
    ++count;
  }
  /// Adds the values of other rows.
  void add(const PlotPoint& other) {
    low = std::min(low, other.low);
    high = std::max(high, other.high);
    sum += other.sum;
    count += other.count;
  }
};

struct PlotCurve {
  std::string name;
  std::map<double, PlotPoint> points;                         ///< by x; bars are at 0, 1, 2, ...
  std::optional<PowerLaw> fit;                                ///< drawn instead of lines between the points
  std::vector<std::vector<std::pair<double, double>>> seeds;  ///< the path of every seed, if rows have seeds
};

struct PlotAxis {
  std::string label;
  bool log = false, percent = false;
  double low = std::numeric_limits<double>::infinity(), high = -low;
  double scale = 1;                                  ///< from the data's unit to the drawn one
  std::vector<std::pair<std::string, double>> tics;  ///< empty: gnuplot's own

  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  /// Position between the ends, 0 to 1.
  double place(double value) const;
};

struct Picture {
  PlotAxis x, y;
  std::vector<PlotCurve> curves;
  std::string key_title, caption;
  bool bars = false;   ///< x holds names
  bool bands = false;  ///< points are means of several rows
  bool seeds = false;  ///< every seed is drawn, instead of bands
};

/// Readable names of a column, "tokens right" for acc_tok, and of a cell, "KDA" for [kda].
std::string column_name(const std::string& column);
std::string value_name(const std::string& cell);

/// The picture of the rows with values of x and y. Of curves with more points than pixels only those are kept that
/// show. Throws Error that names file and row for a cell that cannot be drawn on its axis.
Picture compose_picture(const PlotData& all, const PlotColumns& columns, const PlotOptions& options);

}  // namespace klab
