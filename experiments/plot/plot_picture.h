// What a picture shows, before anyone draws it: curves or bars, their bands, the axes and the words.
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

  double mean() const { return sum / static_cast<double>(count); }
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
    sum += value;
    ++count;
  }
};

struct PlotCurve {
  std::string name;
  std::map<double, PlotPoint> points;  ///< by x; bars stand at 0, 1, 2, ...
  std::optional<PowerLaw> fit;         ///< drawn in the place of a line from point to point
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
  bool bands = false;  ///< points stand for several rows
};

/// A column in plain words, "tokens right" for acc_tok; a cell as people write it, "KDA" for [kda].
std::string column_name(const std::string& column);
std::string value_name(const std::string& cell);

/// Throws Error, naming file and row, for a cell that has no place on its axis.
Picture compose_picture(const PlotData& data, const PlotColumns& columns, const PlotOptions& options);

}  // namespace klab
