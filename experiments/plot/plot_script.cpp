// SPDX-License-Identifier: Apache-2.0
#include "experiments/plot/plot_script.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/text.h"
#include "experiments/plot/gnuplot.h"

namespace klab {
namespace {

constexpr size_t kMarks = 9;  // point marks along a curve with many points

// The colour-blind safe palette of Okabe and Ito, with grey instead of yellow, which is too faint on white.
constexpr std::array kColours = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                 "#E69F00", "#56B4E9", "#000000", "#808080"};
// Dashes and marks have cycles of other lengths, so that curves can be distinguished in black and white.
constexpr std::array kDashes = {"solid", "(12,5)", "(3,4)", "(12,4,3,4)", "(20,6)"};
constexpr std::array kMarkTypes = {7, 5, 9, 13, 11, 6, 4, 8, 12};
constexpr std::array kFills = {"solid 0.85", "pattern 4", "pattern 2", "pattern 5",
                               "solid 0.3",  "pattern 1", "pattern 7"};

std::string colour(size_t i) { return fmt::format("lc rgb '{}'", kColours[i % kColours.size()]); }

// Half transparent.
std::string faint_colour(size_t i) {
  return fmt::format("lc rgb '#90{}'", std::string_view(kColours[i % kColours.size()]).substr(1));
}

std::string dash(size_t i) { return fmt::format("lw 2.6 dt {}", kDashes[i % kDashes.size()]); }

std::string mark(size_t i) { return fmt::format("pt {} ps marks", kMarkTypes[i % kMarkTypes.size()]); }

std::string block(size_t i, const Picture& picture) {
  std::string out = fmt::format("$c{} << EOD\n", i);
  const double scale = picture.y.scale;
  for (const auto& [x, point] : picture.curves[i].points) {
    out +=
        fmt::format("{} {} {} {}\n", x * picture.x.scale, point.mean() * scale, point.low * scale, point.high * scale);
  }
  return out + "EOD\n";
}

// The paths of the seeds, with an empty line between them.
std::string seeds_block(size_t i, const Picture& picture) {
  std::string out = fmt::format("$s{} << EOD\n", i);
  for (const auto& path : picture.curves[i].seeds) {
    for (const auto& [x, y] : path) out += fmt::format("{} {}\n", x * picture.x.scale, y * picture.y.scale);
    out += "\n";
  }
  return out + "EOD\n";
}

// The values of the rows, side by side in the order of the file: (x, offset in [-1/2, 1/2], y).
std::string dots_block(size_t i, const Picture& picture) {
  std::string out = fmt::format("$d{} << EOD\n", i);
  for (const auto& [x, point] : picture.curves[i].points) {
    const auto count = static_cast<double>(point.rows.size());
    for (size_t n = 0; n < point.rows.size(); ++n) {
      out +=
          fmt::format("{} {} {}\n", x, (static_cast<double>(n) + 0.5) / count - 0.5, point.rows[n] * picture.y.scale);
    }
  }
  return out + "EOD\n";
}

// The end points of a fit, which is a straight line on logarithmic axes.
std::string fit_block(size_t i, const Picture& picture) {
  std::string out = fmt::format("$f{} << EOD\n", i);
  for (const double x : {picture.x.low, picture.x.high}) {
    out += fmt::format("{} {}\n", x * picture.x.scale, picture.curves[i].fit->at(x) * picture.y.scale);
  }
  return out + "EOD\n";
}

std::string line_elements(const Picture& picture) {
  std::string bands, lines, marks, keys;
  const size_t n = picture.curves.size();
  for (size_t i = 0; i < n; ++i) {
    const PlotCurve& curve = picture.curves[i];
    // Marks of different curves are at different x, so that overlapping curves remain visible.
    const size_t step = std::max<size_t>(1, curve.points.size() / kMarks), first = step * i / n;
    if (picture.seeds) {
      bands += fmt::format("$s{} using 1:2 with {} {} lw 0.8 notitle, \\\n", i,
                           curve.fit ? "points pt 7 ps 0.6*marks" : "lines", faint_colour(i));
    } else if (picture.bands) {
      bands += fmt::format("$c{} using 1:3:4 with filledcurves {} fs transparent solid 0.16 noborder notitle, \\\n", i,
                           colour(i));
    }
    lines +=
        fmt::format("${}{} using 1:2 with lines {} {} notitle, \\\n", curve.fit ? 'f' : 'c', i, colour(i), dash(i));
    marks +=
        fmt::format("$c{} every {}::{} using 1:2 with points {} {} notitle, \\\n", i, step, first, colour(i), mark(i));
    if (!curve.name.empty()) {
      keys += fmt::format("keyentry with linespoints {} {} {} title {}, \\\n", colour(i), dash(i), mark(i),
                          gnuplot_text(curve.name));
    }
  }
  return bands + lines + marks + keys;
}

std::string bar_elements(const Picture& picture) {
  std::string out;
  const double count = static_cast<double>(picture.curves.size()), width = 0.8 / count;
  for (size_t i = 0; i < picture.curves.size(); ++i) {
    const double shift = (static_cast<double>(i) - (count - 1) / 2) * width;
    const std::string& name = picture.curves[i].name;
    out += fmt::format("$c{} using ($1+{}):2:({}) with boxes {} lw 1.5 fs {} border {} {}, \\\n", i, shift,
                       0.92 * width, colour(i), kFills[i % kFills.size()], colour(i),
                       name.empty() ? "notitle" : "title " + gnuplot_text(name));
    if (picture.seeds) {
      for (const auto& [size, shade] : {std::pair(1.1, "#ffffff"), std::pair(0.75, "#000000")}) {  // with a white rim
        out += fmt::format("$d{} using ($1+{}+$2*{}):3 with points pt 7 ps {}*marks lc rgb '{}' notitle, \\\n", i,
                           shift, 0.6 * width, size, shade);
      }
    } else if (picture.bands) {
      out += fmt::format(
          "$c{} using ($1+{}):3:(0):($4-$3) with vectors heads size screen 0.004,90 lc rgb '#000000' lw 1.8 "
          "notitle, \\\n",
          i, shift);
    }
  }
  return out;
}

struct Box {
  double left, right, low, high;  // fractions of the plot's width and height
};

// Whether a curve or its band passes through the box, sampled along every segment.
bool covers(const Picture& picture, const Box& box) {
  constexpr int kSteps = 20;
  for (const PlotCurve& curve : picture.curves) {
    for (auto at = curve.points.begin(); at != curve.points.end(); ++at) {
      const auto next = std::next(at) == curve.points.end() ? at : std::next(at);
      for (int i = 0; i <= kSteps; ++i) {
        const auto between = [&](double a, double b) { return a + (b - a) * i / kSteps; };
        const double x = between(picture.x.place(at->first), picture.x.place(next->first));
        const double low = between(picture.y.place(at->second.low), picture.y.place(next->second.low));
        const double high = between(picture.y.place(at->second.high), picture.y.place(next->second.high));
        if (x >= box.left && x <= box.right && high >= box.low && low <= box.high) return true;
      }
    }
  }
  return false;
}

// The size of the plot in characters and lines of text.
struct Room {
  double letters, lines;
};

size_t longest_name(const Picture& picture) {
  size_t longest = picture.key_title.size();
  for (const PlotCurve& curve : picture.curves) longest = std::max(longest, curve.name.size());
  return longest;
}

// Position of the legend: in a corner without curves, else to the right of the plot, or below it if the names are long.
std::string key_place(const Picture& picture, const Room& room) {
  const double width = (static_cast<double>(longest_name(picture)) + 8) / room.letters;
  const double rows = static_cast<double>(picture.curves.size()) + (picture.key_title.empty() ? 0 : 1);
  const double height = (rows + 1) / room.lines;
  const std::pair<const char*, Box> corners[] = {{"bottom right", {1 - width, 1, 0, height}},
                                                 {"top right", {1 - width, 1, 1 - height, 1}},
                                                 {"top left", {0, width, 1 - height, 1}},
                                                 {"bottom left", {0, width, 0, height}}};
  if (!picture.bars && width < 0.6 && height < 0.6) {
    for (const auto& [name, box] : corners) {
      if (!covers(picture, box)) return fmt::format("inside {} vertical opaque", name);
    }
  }
  if (width < 0.3 && !picture.bars) return "outside right top vertical";
  return fmt::format("below left horizontal maxcols {}", std::max(1, static_cast<int>(1 / width)));
}

std::string key_lines(const Picture& picture, const Room& room) {
  if (picture.curves.size() == 1 && picture.curves[0].name.empty()) return "unset key\nset rmargin 4\n";
  const std::string place = key_place(picture, room);
  std::string out = place.rfind("outside", 0) == 0 ? "" : "set rmargin 4\n";
  // A legend below the plot starts directly under the label, so the label gets an empty line as distance.
  if (place.rfind("below", 0) == 0) out += "set xlabel " + gnuplot_text(picture.x.label) + ".\"\\n\"\n";
  out += "set key " + place + " Left reverse samplen 3.5 spacing 1.25";
  if (!picture.key_title.empty()) out += " title " + gnuplot_text(picture.key_title) + " left";
  return out + "\n";
}

std::string tic_lines(const PlotAxis& axis, const std::string& name, const Room& room) {
  std::vector<std::string> tics;
  size_t letters = 0;
  for (const auto& [label, at] : axis.tics) {
    std::string text = gnuplot_text(label);
    // A percent sign in a tic's label would start a number format.
    for (size_t i = 0; (i = text.find('%', i)) != std::string::npos; i += 2) text.insert(i, 1, '%');
    tics.push_back(fmt::format("{} {}", text, at * axis.scale));
    letters = std::max(letters, label.size() + 2);
  }
  const bool crowded = static_cast<double>(letters * tics.size()) > room.letters;
  return fmt::format("set {0}tics {1} ({2})\nunset m{0}tics\n", name, crowded ? "rotate by 25 right" : "", join(tics));
}

std::string axis_lines(const PlotAxis& axis, const std::string& name, const Room& room) {
  std::string out =
      fmt::format("set {0}label {1}\nset {0}range [{2}:{3}]\nset format {0} '{4}'\n", name, gnuplot_text(axis.label),
                  axis.low * axis.scale, axis.high * axis.scale, axis.percent ? "%.0f %%" : "%g");
  if (axis.log) out += fmt::format("set logscale {}\n", name);
  if (axis.percent) out += fmt::format("set {}tics 0,20,100\n", name);
  return axis.tics.empty() ? out : out + tic_lines(axis, name, room);
}

std::string frame_lines(const Picture& picture, const PlotOptions& options, double size) {
  std::string out = "set border 3 lw 1.4 lc rgb '#404040'\nset tics nomirror out textcolor rgb '#000000'\n";
  out += "set grid ytics lt 1 dt solid lc rgb '#dcdcdc' lw 1\n";
  if (!picture.bars) out += "set grid xtics\n";
  if (!options.title.empty()) out += "set title " + gnuplot_text(options.title) + "\n";
  if (picture.caption.empty()) return out;
  out += fmt::format("set label {} at graph 1, graph 1 right offset 0,0.8 font ',{:.1f}' tc rgb '#404040'\n",
                     gnuplot_text(picture.caption), 0.8 * size);
  return out + (options.title.empty() ? "set tmargin 2.2\n" : "set title offset 0,0.8\n");
}

}  // namespace

std::string gnuplot_script(const Picture& picture, const PlotOptions& options, const std::string& terminal) {
  const double zoom = std::min(options.width / 1200.0, options.height / 750.0), thick = std::sqrt(zoom);
  const double size = 17 * options.font_scale * zoom;
  // A character is about 0.6 by 1.25 em, and an em 4/3 of the size; axes and margins are subtracted.
  const Room room{options.width * 0.88 / (0.8 * size), options.height * 0.82 / (2.1 * size)};
  std::string out = "set encoding utf8\n";
  out += fmt::format(
      "set terminal {} size {},{} noenhanced font 'sans-serif,{:.1f}' linewidth {} background rgb "
      "'#ffffff'\n",
      terminal, options.width, options.height, size, thick);
  out += fmt::format("marks = {}\n", 1.3 * thick);
  out += frame_lines(picture, options, size);
  out += axis_lines(picture.x, "x", room) + axis_lines(picture.y, "y", room) + key_lines(picture, room);
  for (size_t i = 0; i < picture.curves.size(); ++i) {
    out += block(i, picture);
    if (picture.curves[i].fit) out += fit_block(i, picture);
    if (picture.seeds) out += picture.bars ? dots_block(i, picture) : seeds_block(i, picture);
  }
  std::string elements = picture.bars ? bar_elements(picture) : line_elements(picture);
  elements.resize(elements.rfind(','));
  return out + "plot " + elements + "\n";
}

}  // namespace klab
