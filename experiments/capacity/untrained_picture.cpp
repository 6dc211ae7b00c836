// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "experiments/capacity/untrained.h"
#include "experiments/plot/gnuplot.h"

namespace klab {
namespace {

// The additive rules are orange, the delta rules blue, least squares is black; the dashes show the decay.
struct LineStyle {
  const char *colour, *dash;
  int mark;
};

LineStyle style_of(const std::string& update) {
  static const std::map<std::string, LineStyle> styles = {
      {"additive", {"#f4a261", "(3,3)", 4}},
      {"additive + decay per head", {"#e07a1f", "(10,4)", 6}},
      {"additive + decay per channel", {"#b3410e", "solid", 8}},
      {"delta", {"#7fb8e6", "(3,3)", 5}},
      {"delta + decay per head", {"#2f86d1", "(10,4)", 7}},
      {"delta + decay per channel", {"#08519c", "solid", 9}},
      {"delta + decay and erase per channel", {"#1b9e77", "(12,4,3,4)", 13}}};
  const auto found = styles.find(update);
  return found != styles.end() ? found->second : LineStyle{"#000000", "solid", 2};
}

struct PanelText {
  const char *title, *detail;
};

PanelText text_of(Scenario scenario) {
  switch (scenario) {
    case Scenario::plain: return {"each pair written once", "thin grey lines: theory"};
    case Scenario::overwritten: return {"half of the keys overwritten", "the last value counts"};
    case Scenario::distractors: return {"distractors", "old writes before, noise on 1/4 of the channels between"};
  }
  return {"", ""};
}

// A curve as a data block of x, recovered and theory in percent.
std::string curve_block(const std::string& name, const std::vector<CapacityPoint>& points) {
  std::string out = fmt::format("${} << EOD\n", name);
  for (const CapacityPoint& point : points) {
    out += fmt::format("{} {} {}\n", static_cast<double>(point.pairs) / static_cast<double>(point.key_dim),
                       100 * point.recovered, point.theory ? fmt::format("{}", 100 * *point.theory) : "NaN");
  }
  return out + "EOD\n";
}

std::string name_in_key(const CapacityPoint& point) {
  if (point.mixers.empty()) return point.update;
  std::string mixers = point.mixers;
  for (size_t at = 0; (at = mixers.find(' ', at)) != std::string::npos; at += 2) mixers.replace(at, 1, ", ");
  return fmt::format("{} ({})", point.update, mixers);
}

using Panel = std::vector<std::vector<CapacityPoint>>;  // a curve per update rule

// The layout of the page in pixels.
constexpr int kPageWidth = 1800, kTitle = 110, kRow = 450, kPlot = 290, kLegend = 190;

// The positions of panel (row, column), as fractions of the page.
std::string margins(int row, int column, int rows) {
  const double left = 0.06 + 0.315 * column, height = kTitle + rows * kRow + kLegend;
  const double top = 1 - (kTitle + row * kRow) / height;
  return fmt::format(
      "set lmargin at screen {}\nset rmargin at screen {}\nset tmargin at screen {}\nset bmargin at screen {}\n", left,
      left + 0.285, top, top - kPlot / height);
}

std::string panel(const std::string& name, const Panel& curves, bool with_key) {
  const CapacityPoint& first = curves.front().front();
  std::string blocks, lines, theory, keys;
  for (size_t i = 0; i < curves.size(); ++i) {
    const std::string block = fmt::format("{}c{}", name, i);
    const LineStyle style = style_of(curves[i].front().update);
    blocks += curve_block(block, curves[i]);
    const std::string look = fmt::format("lc rgb '{}' lw 2.4 dt {} pt {} ps 1.1", style.colour, style.dash, style.mark);
    lines += fmt::format("${} using 1:2 with linespoints {} notitle, ", block, look);
    if (first.scenario == Scenario::plain) {
      theory += fmt::format("${} using 1:3 with lines lc rgb '#404040' lw 1 dt solid notitle, ", block);
    }
    if (with_key) {
      keys +=
          fmt::format("keyentry with linespoints {} title {}, ", look, gnuplot_text(name_in_key(curves[i].front())));
    }
  }
  std::string out = fmt::format(
      "set title {}\n", gnuplot_text(fmt::format("{}, key width {}", text_of(first.scenario).title, first.key_dim)));
  out += fmt::format("set label 1 {} at graph 0.5, graph 1.05 center font ',13' tc rgb '#404040'\n",
                     gnuplot_text(text_of(first.scenario).detail));
  std::string elements = lines + theory + keys;
  elements.resize(elements.rfind(','));
  return blocks + out + "plot " + elements + "\n";
}

// The panels of a width, by scenario. Least squares comes after the additive rules, so that the legend has two columns
// of four.
std::map<Scenario, Panel> panels_of(const std::vector<CapacityPoint>& points, int64_t width) {
  std::map<Scenario, Panel> panels;
  for (const CapacityPoint& point : points) {
    if (point.key_dim != width) continue;
    Panel& curves = panels[point.scenario];
    const auto same = std::find_if(curves.begin(), curves.end(),
                                   [&](const auto& curve) { return curve.front().update == point.update; });
    if (same == curves.end()) {
      curves.push_back({point});
    } else {
      same->push_back(point);
    }
  }
  const auto is_delta = [](const auto& curve) { return curve.front().update.rfind("delta", 0) == 0; };
  for (auto& [scenario, curves] : panels) {
    std::stable_partition(curves.begin(), curves.end(), [&](const auto& curve) { return !is_delta(curve); });
  }
  return panels;
}

}  // namespace

void draw_untrained(const std::vector<CapacityPoint>& points, const std::string& out) {
  const auto by_width = [](const CapacityPoint& a, const CapacityPoint& b) { return a.key_dim < b.key_dim; };
  const auto [least, most] = std::minmax_element(points.begin(), points.end(), by_width);
  std::vector<int64_t> widths = {least->key_dim};
  if (most->key_dim > least->key_dim) widths.push_back(most->key_dim);
  const int rows = static_cast<int>(widths.size());
  std::string script = fmt::format(
      "set encoding utf8\nset terminal pngcairo size {},{} noenhanced font 'sans-serif,16' background rgb '#ffffff'\n",
      kPageWidth, kTitle + rows * kRow + kLegend);
  script +=
      "set border 3 lw 1.4 lc rgb '#404040'\nset tics nomirror out textcolor rgb '#000000'\n"
      "set grid xtics ytics lt 1 dt solid lc rgb '#dcdcdc' lw 1\nset yrange [0:102]\nset logscale x 2\nset autoscale "
      "xfix\n"
      "set format y '%.0f %%'\nset title offset 0,0.4\nset xlabel 'pairs / key width'\n"
      "set multiplot title 'What an update rule holds without training, with the best constant gates' font ',20'\n";
  script +=
      fmt::format("set key at screen 0.5,{:.4f} center top maxrows 4 maxcols 2 Left reverse samplen 4 spacing 1.3\n",
                  (kLegend - 10.0) / (kTitle + rows * kRow + kLegend));
  for (int row = 0; row < rows; ++row) {
    int column = 0;
    for (const auto& [scenario, curves] : panels_of(points, widths[static_cast<size_t>(row)])) {
      script += margins(row, column, rows);
      script +=
          column == 0 ? "set ylabel 'pairs recovered'\nset format y '%.0f %%'\n" : "unset ylabel\nset format y ''\n";
      script += panel(fmt::format("p{}{}", row, column), curves, row + 1 == rows && scenario == kScenarios[2]);
      ++column;
    }
  }
  run_gnuplot(script + "unset multiplot\n", out);
}

}  // namespace klab
