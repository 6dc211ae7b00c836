// SPDX-License-Identifier: Apache-2.0
#include "experiments/plot/plot_heat.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "core/base/error.h"
#include "core/base/text.h"
#include "experiments/plot/gnuplot.h"
#include "experiments/plot/plot_picture.h"

namespace klab {
namespace {

constexpr size_t kMostCells = 4096, kMostNumbers = 150, kMostPanels = 12;
constexpr size_t kMostTics = 16, kMostHeatTexts = 48;  // numbers between two tics can be inferred, names cannot

size_t place_of(const std::vector<std::string>& values, const std::string& value) {
  return static_cast<size_t>(std::find(values.begin(), values.end(), value) - values.begin());
}

// The values along an axis: numbers sorted; if there are numbers, texts ("all") are left out. An empty cell is no
// place.
std::vector<std::string> places(const PlotData& data, size_t column) {
  std::vector<std::string> values = data.values(column);
  std::erase(values, "");
  const auto is_number = [](const std::string& text) { return parse_number(text).has_value(); };
  if (std::any_of(values.begin(), values.end(), is_number)) {
    std::erase_if(values, [&](const std::string& text) { return !is_number(text); });
    sort_as_numbers(values);
  }
  return values;
}

struct Cell {
  double sum = 0;
  int64_t count = 0;
};

struct Panel {
  std::string name;
  std::map<std::pair<size_t, size_t>, Cell> cells;  // by index along x and y
};

struct Heat {
  std::vector<std::string> xs, ys;
  std::vector<Panel> panels;
  double low = 0, high = 1;
};

Heat collect(const PlotData& data, const PlotOptions& options) {
  if (options.x.empty() || options.y.empty()) refuse("heat = {}: say --x and --y too", options.heat);
  const size_t x = data.table.column(options.x), y = data.table.column(options.y), z = data.table.column(options.heat);
  std::vector<size_t> groups;
  if (options.group_by != "none") {
    for (const std::string& name : split(options.group_by, ',')) groups.push_back(data.table.column(name));
  }
  Heat heat{places(data, x), places(data, y), {}};
  if (heat.xs.size() * heat.ys.size() > kMostCells) {
    refuse("a heat map of {} x {} cells cannot be read: choose other columns, or --where", heat.xs.size(),
           heat.ys.size());
  }
  for (size_t row = 0; row < data.sources.size(); ++row) {
    const auto value = parse_number(data.cell(row, z));
    if (value && !std::isfinite(*value)) {
      const PlotData::Source& source = data.sources[row];
      fail("{}, row {}: {} = '{}' is not a finite number", source.file, source.row, options.heat, data.cell(row, z));
    }
    const size_t at_x = place_of(heat.xs, data.cell(row, x)), at_y = place_of(heat.ys, data.cell(row, y));
    if (!value || at_x == heat.xs.size() || at_y == heat.ys.size()) continue;
    std::vector<std::string> names;
    for (const size_t group : groups) names.push_back(value_name(data.cell(row, group)));
    const std::string name = join(names);
    auto panel = std::find_if(heat.panels.begin(), heat.panels.end(), [&](const Panel& p) { return p.name == name; });
    if (panel == heat.panels.end()) panel = heat.panels.insert(heat.panels.end(), {name, {}});
    if (heat.panels.size() > kMostPanels) {
      refuse("{} heat maps or more are too many for one picture (at most {})", heat.panels.size(), kMostPanels);
    }
    Cell& cell = panel->cells[{at_x, at_y}];
    cell.sum += *value;
    ++cell.count;
  }
  if (heat.panels.empty()) fail("heat = {}: no row has a number there", options.heat);
  bool share = true;
  heat.low = std::numeric_limits<double>::infinity();
  heat.high = -heat.low;
  for (const Panel& panel : heat.panels) {
    for (const auto& [place, cell] : panel.cells) {
      const double mean = cell.sum / static_cast<double>(cell.count);
      heat.low = std::min(heat.low, mean);
      heat.high = std::max(heat.high, mean);
      share = share && mean >= 0 && mean <= 1;
    }
  }
  if (share) heat.low = 0, heat.high = 1;  // the same colour scale in all pictures of fractions
  if (heat.low == heat.high) heat.high = heat.low + 1;
  return heat;
}

std::string tics(const std::vector<std::string>& values, const char* axis) {
  const size_t most = parse_number(values.front()) ? kMostTics : kMostHeatTexts;
  const size_t step = std::max<size_t>(1, values.size() / most);
  std::vector<std::string> all;
  for (size_t i = 0; i < values.size(); i += step)
    all.push_back(fmt::format("{} {}", gnuplot_text(values[i], /*tic=*/true), i));
  return fmt::format("set {}tics ({})\n", axis, join(all));
}

std::string label_of(const std::string& given, const std::string& column) {
  return given.empty() ? column_name(column) : given;
}

}  // namespace

std::string heat_script(const PlotData& data, const PlotOptions& options, const std::string& terminal) {
  const Heat heat = collect(data, options);
  const auto panels = static_cast<int>(heat.panels.size());
  const int columns = panels <= 3 ? panels : (panels + 1) / 2, rows = (panels + columns - 1) / columns;
  const double zoom = std::min(options.width / 1200.0, options.height / 750.0);
  std::string out = fmt::format(
      "set encoding utf8\nset terminal {} size {},{} noenhanced font 'sans-serif,{:.1f}' background rgb '#ffffff'\n",
      terminal, options.width, options.height, 13 * options.font_scale * zoom);
  // From dark to bright, so that it also works in greyscale.
  out += "set palette defined (0 '#30123b', 0.25 '#2c6fbb', 0.5 '#35b779', 0.75 '#c8d849', 1 '#fdf6b0')\n";
  out += fmt::format("set cbrange [{}:{}]\nset cblabel {}\nunset key\nset tics out nomirror\n", heat.low, heat.high,
                     gnuplot_text(column_name(options.heat)));
  out += fmt::format("set xrange [-0.5:{}]\nset yrange [-0.5:{}]\n", static_cast<double>(heat.xs.size()) - 0.5,
                     static_cast<double>(heat.ys.size()) - 0.5);
  out += tics(heat.xs, "x") + tics(heat.ys, "y");
  out += fmt::format("set xlabel {}\nset ylabel {}\n", gnuplot_text(label_of(options.x_label, options.x)),
                     gnuplot_text(label_of(options.y_label, options.y)));
  const bool numbers = heat.xs.size() * heat.ys.size() <= kMostNumbers;
  std::string plots;
  for (size_t i = 0; i < heat.panels.size(); ++i) {
    out += fmt::format("$h{} << EOD\n", i);
    for (const auto& [place, cell] : heat.panels[i].cells) {
      out += fmt::format("{} {} {}\n", place.first, place.second, cell.sum / static_cast<double>(cell.count));
    }
    out += "EOD\n";
    plots += fmt::format("set title {}\nplot $h{} using 1:2:3 with image pixels", gnuplot_text(heat.panels[i].name), i);
    if (numbers) {
      // Dark text on bright cells, bright text on dark ones.
      plots += fmt::format(
          ", $h{0} using 1:2:(sprintf('%.2g',$3)):($3 > {1} ? 0x000000 : 0xffffff) with labels font ',{2:.1f}' tc rgb "
          "variable",
          i, heat.low + 0.55 * (heat.high - heat.low), 10 * options.font_scale * zoom);
    }
    plots += "\n";
  }
  out += fmt::format("set multiplot layout {},{}{}\n", rows, columns,
                     options.title.empty() ? "" : " title " + gnuplot_text(options.title));
  return out + plots + "unset multiplot\n";
}

}  // namespace klab
