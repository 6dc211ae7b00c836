// SPDX-License-Identifier: Apache-2.0
#include "experiments/plot/plot_picture.h"

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/table.h"
#include "core/base/text.h"
#include "experiments/plot/plot.h"
#include "experiments/plot/thinning.h"

namespace klab {

double PlotAxis::place(double value) const {
  return log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
}

namespace {

constexpr size_t kMostSeedsDrawn = 30;  // more thin lines or dots hide each other
constexpr size_t kMostNames = 20;       // categories along a text axis

// Readable names of known columns.
const std::map<std::string, std::string> kColumnNames = {
    {"step", "training step"},
    {"loss", "cross-entropy loss (nats)"},
    {"acc_seq", "sequences fully right"},
    {"acc_tok", "tokens right"},
    {"best_acc_seq", "sequences fully right, best evaluation"},
    {"best_acc_tok", "tokens right, best evaluation"},
    {"test_acc_tok", "tokens right (test)"},
    {"test_acc_seq", "sequences right (test)"},
    {"best_test_acc_tok", "tokens right (test, best step)"},
    {"best_test_acc_seq", "sequences right (test, best step)"},
    {"share_waiting", "share of runs"},
    {"lr", "learning rate"},
    {"length", "sequence length"},
    {"width", "model width"},
    {"head_dim", "head dimension"},
    {"vocab", "vocabulary size"},
    {"batch", "batch size"},
    {"seconds", "time (s)"},
    {"grad_norm", "gradient norm"},
    {"state_bytes", "state (bytes)"},
};

const std::map<std::string, std::string> kMixerNames = {{"kda", "KDA"}, {"gdn", "GDN"}, {"mamba2", "Mamba-2"}};

}  // namespace

std::string column_name(const std::string& column) {
  std::string name = last_part(column);
  if (const auto known = kColumnNames.find(name); known != kColumnNames.end()) return known->second;
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

std::string value_name(const std::string& cell) {
  const std::string value = bare_list(cell);
  const auto known = kMixerNames.find(value);
  return known != kMixerNames.end() ? known->second : value;
}

namespace {

double finite(const PlotData& data, size_t row, size_t column, bool log) {
  const PlotData::Source& source = data.sources[row];
  const std::string& text = data.cell(row, column);
  const std::string& name = data.name(column);
  const auto value = parse_number(text);
  if (!value || !std::isfinite(*value)) {
    fail("{}, row {}: {} = '{}' is not a finite number", source.file, source.row, name, text);
  }
  if (log && *value <= 0) {
    fail("{}, row {}: {} = {} has no place on a logarithmic axis", source.file, source.row, name, text);
  }
  return *value;
}

// "KDA, lr 0.001": numbers are preceded by their column's name if there are several groups. "no variant" if all are
// empty.
std::string curve_name(const PlotData& data, size_t row, const std::vector<size_t>& groups) {
  std::vector<std::string> parts;
  for (const size_t column : groups) {
    const std::string& cell = data.cell(row, column);
    if (cell.empty()) continue;
    const bool bare = groups.size() == 1 || !data.is_numeric(column);
    parts.push_back(bare ? value_name(cell) : last_part(data.name(column)) + " " + cell);
  }
  if (!parts.empty() || groups.empty()) return join(parts);
  for (const size_t column : groups) parts.push_back(last_part(data.name(column)));
  return "no " + join(parts);
}

// Sort key of a curve: by value for numeric columns, else by order of appearance.
std::vector<double> curve_rank(const PlotData& data, size_t row, const std::vector<size_t>& groups) {
  std::vector<double> rank;
  for (const size_t column : groups) {
    const auto value = parse_number(data.cell(row, column));
    if (value && data.is_numeric(column)) {
      rank.push_back(*value);
    } else {
      const std::vector<std::string> all = data.values(column);
      const auto at = std::find(all.begin(), all.end(), data.cell(row, column));
      rank.push_back(static_cast<double>(at - all.begin()));
    }
  }
  return rank;
}

// The last value of each run of a curve; runs are identified by their seeds.
struct Endings {
  std::map<std::string, std::pair<double, double>> last;                // x and y, by seed
  std::map<std::string, std::vector<std::pair<double, double>>> paths;  // all points, by seed
  bool mixed = false;                                                   // several runs share a seed

  void add(const std::string& seed, double x, double y) {
    const auto [at, fresh] = last.try_emplace(seed, x, y);
    mixed = mixed || (!fresh && x <= at->second.first);
    at->second = {x, y};
    paths[seed].emplace_back(x, y);
  }
};

// Extends runs that ended early (solved tasks) by their last value; otherwise the mean would drop when they end.
bool hold_last_values(PlotCurve& curve, const Endings& endings) {
  if (endings.mixed) return false;
  std::vector<std::pair<double, double>> ends;  // in the order of x
  for (const auto& [seed, ending] : endings.last) ends.push_back(ending);
  std::sort(ends.begin(), ends.end());
  PlotPoint ended;
  auto end = ends.begin();
  for (auto& [x, point] : curve.points) {
    for (; end != ends.end() && end->first < x; ++end) ended.add(end->second);
    point.add(ended);
  }
  return ended.count > 0;
}

// The first row of each curve, in the order of the legend.
std::vector<size_t> legend_order(const PlotData& data, const std::vector<size_t>& groups, std::vector<size_t> first) {
  if (first.size() > kMostCurves) {
    refuse(
        "{} curves cannot be told apart in one picture (at most {}); choose the columns that name a "
        "curve with group_by",
        first.size(), kMostCurves);
  }
  std::map<size_t, std::pair<std::vector<double>, std::string>> rank;
  for (const size_t row : first) rank[row] = {curve_rank(data, row, groups), data.key(row, groups)};
  std::sort(first.begin(), first.end(), [&](size_t a, size_t b) { return rank[a] < rank[b]; });
  return first;
}

// The curves in the order of the legend. For a text column x, the position is the index of the name.
std::vector<PlotCurve> gather(const PlotData& data, const PlotColumns& columns, const std::vector<std::string>& names,
                              bool log_x, bool log_y, bool* held) {
  std::unordered_map<std::string, PlotCurve> by_key;
  std::unordered_map<std::string, Endings> endings;
  std::vector<size_t> first;
  for (size_t row = 0; row < data.sources.size(); ++row) {
    const std::string key = data.key(row, columns.groups);
    const auto [curve, fresh] = by_key.try_emplace(key);
    if (fresh) first.push_back(row);
    const auto name = std::find(names.begin(), names.end(), data.cell(row, columns.x));
    const double x = names.empty() ? finite(data, row, columns.x, log_x) : static_cast<double>(name - names.begin());
    const double y = finite(data, row, columns.y, log_y);
    PlotPoint& point = curve->second.points[x];
    point.add(y);
    point.rows.push_back(y);
    if (columns.seed) endings[key].add(data.cell(row, *columns.seed), x, y);
  }
  const bool steps = last_part(data.name(columns.x)) == "step";
  std::vector<PlotCurve> curves;
  for (const size_t row : legend_order(data, columns.groups, std::move(first))) {
    const std::string key = data.key(row, columns.groups);
    PlotCurve& curve = curves.emplace_back(std::move(by_key[key]));
    curve.name = curve_name(data, row, columns.groups);
    if (steps) *held = hold_last_values(curve, endings[key]) || *held;
    if (endings[key].mixed) continue;
    for (auto& [seed, path] : endings[key].paths) curve.seeds.push_back(std::move(path));
  }
  return curves;
}

// Fits a power law to the means over seeds.
void fit(PlotCurve& curve) {
  std::vector<std::pair<double, double>> points;
  for (const auto& [x, point] : curve.points) points.emplace_back(x, point.mean());
  if (points.size() < 2) refuse("fit: '{}' has one point, and a line needs two", curve.name);
  curve.fit = fit_power_law(points);
  std::string text = fmt::format("{:.5g} x^{:.4f}", curve.fit->factor, curve.fit->exponent);
  if (std::isfinite(curve.fit->half_width)) text += fmt::format(" ± {:.4f}", curve.fit->half_width);
  curve.name = curve.name.empty() ? text : curve.name + ": " + text;
}

// Few values that grow by factors (1e-4, 3e-4, 1e-3 or 64, 128, 256, ...) belong on a logarithmic axis.
bool is_geometric(const std::set<double>& at) {
  if (at.size() < 3 || at.size() > 12 || *at.begin() <= 0 || *at.rbegin() < 8 * *at.begin()) return false;
  for (auto value = at.begin(); std::next(value) != at.end(); ++value) {
    if (*std::next(value) < 1.5 * *value) return false;
  }
  return true;
}

// "1e-4", not "1e-04".
std::string tic_text(double value) {
  std::string text = fmt::format("{:g}", value);
  if (const auto zero = text.find("e-0"); zero != std::string::npos) text.erase(zero + 2, 1);
  return text;
}

// Adds a margin around the data, so that no curve overlaps the frame.
void widen(PlotAxis& axis, double margin) {
  if (axis.log) {
    const double factor = std::pow(axis.high / axis.low, margin);
    axis.low /= factor > 1 ? factor : 2;
    axis.high *= factor > 1 ? factor : 2;
    return;
  }
  const double span = axis.high > axis.low ? axis.high - axis.low : std::max(std::abs(axis.high), 1.0);
  const bool from_zero = axis.low >= 0 && axis.low < 0.3 * axis.high;
  axis.low = from_zero ? 0 : axis.low - margin * span;
  axis.high += margin * span;
}

// Scales large numbers to thousands or millions and adds that to the label.
void shrink(PlotAxis& axis) {
  if (axis.log || axis.high < 1e5) return;
  const bool millions = axis.high >= 1e7;
  axis.label += millions ? " (millions)" : " (thousands)";
  axis.scale = millions ? 1e-6 : 1e-3;
}

// Tics at 1, 2, 5, 10, ..; for a narrow range with too few of these, round numbers at equal steps. For many powers of
// ten gnuplot's own tics are used.
void set_log_tics(PlotAxis& axis) {
  constexpr double kWide = 200;
  constexpr size_t kFewest = 4;
  const double span = axis.high - axis.low;
  if (axis.high / axis.low > kWide) return;
  const auto mark = [&](double value) {
    if (value >= axis.low && value <= axis.high) axis.tics.emplace_back(tic_text(value), value);
  };
  for (double power = std::pow(10, std::floor(std::log10(axis.low))); power <= axis.high; power *= 10) {
    for (const double digit : {1, 2, 5}) mark(digit * power);
  }
  if (axis.tics.size() >= kFewest) return;
  axis.tics.clear();
  double step = std::pow(10, std::floor(std::log10(span)));
  for (const double finer : {2.0, 2.5, 2.0}) {  // 1, 0.5, 0.2, 0.1
    if (span / step >= kFewest) break;
    step /= finer;
  }
  for (double i = std::ceil(axis.low / step); i * step <= axis.high; ++i) mark(i * step);
}

void set_x_axis(PlotAxis& axis, const std::set<double>& at) {
  const bool geometric = is_geometric(at);
  axis.log = axis.log || geometric;
  if (geometric || at.size() <= 2) {
    for (const double x : at) axis.tics.emplace_back(tic_text(x), x);
  }
  widen(axis, 0.02);
  if (axis.log && axis.tics.empty()) set_log_tics(axis);
  shrink(axis);
}

void set_bar_axis(PlotAxis& axis, const std::vector<std::string>& names) {
  for (size_t i = 0; i < names.size(); ++i) axis.tics.emplace_back(value_name(names[i]), i);
  axis.low = -0.6;
  axis.high = static_cast<double>(names.size()) - 0.4;
}

void set_y_axis(PlotAxis& axis, bool bars, bool share) {
  axis.percent = share && axis.low >= 0 && axis.high <= 1 && !axis.log;
  if (axis.percent) {
    axis.low = bars ? 0 : -0.02;
    axis.high = 1.02;
    axis.scale = 100;
    return;
  }
  if (bars && !axis.log) axis.include(0);  // a bar's length is its value
  widen(axis, 0.05);
  if (axis.log) set_log_tics(axis);
  shrink(axis);
}

void set_axes(Picture& picture, const std::vector<std::string>& names, bool share) {
  std::set<double> at;
  for (const PlotCurve& curve : picture.curves) {
    for (const auto& [x, point] : curve.points) {
      at.insert(x);
      picture.x.include(x);
      picture.y.include(point.low);
      picture.y.include(point.high);
    }
  }
  if (picture.bars) {
    set_bar_axis(picture.x, names);
  } else {
    set_x_axis(picture.x, at);
  }
  set_y_axis(picture.y, picture.bars, share);
}

// Sets the caption of the bands, and the legend's title if one numeric column defines the curves.
void set_words(Picture& picture, const PlotData& data, const PlotColumns& columns) {
  size_t most = 1;
  for (const PlotCurve& curve : picture.curves) {
    for (const auto& [x, point] : curve.points) most = std::max(most, point.count);
  }
  picture.bands = most > 1;
  if (picture.bands) {
    const bool seeds = columns.seed && most <= data.values(*columns.seed).size();
    const bool paths = std::all_of(picture.curves.begin(), picture.curves.end(),
                                   [](const PlotCurve& curve) { return !curve.seeds.empty(); });
    picture.seeds = most <= kMostSeedsDrawn && (picture.bars ? seeds : paths);
    const bool dots = picture.bars || picture.curves.front().fit;
    const std::string shown = picture.seeds  ? (dots ? "dots: each" : "thin lines: each")
                              : picture.bars ? "whiskers from lowest to highest"
                                             : "bands from lowest to highest";
    picture.caption = fmt::format("mean of {} {}; {}", most, seeds ? "seeds" : "rows", shown);
  }
  if (columns.groups.size() == 1 && data.is_numeric(columns.groups[0])) {
    picture.key_title = column_name(data.name(columns.groups[0]));
  }
}

}  // namespace

Picture compose_picture(const PlotData& all, const PlotColumns& columns, const PlotOptions& options) {
  const PlotData data = plotted_rows(all, columns);
  const std::string& x = data.name(columns.x);
  const std::string& y = data.name(columns.y);
  Picture picture;
  // The first cell decides: if it is a number and a later one is not, the later cell is reported as an error.
  picture.bars = options.bars || !parse_number(data.cell(0, columns.x));
  const std::vector<std::string> names = picture.bars ? data.ordered_values(columns.x) : std::vector<std::string>();
  if (names.size() > kMostNames) {
    refuse("x = {} holds {} different texts; the x axis needs numbers or up to {} names", x, names.size(), kMostNames);
  }
  if (picture.bars && !options.fit.empty()) refuse("fit = {}: {} holds names, not numbers", options.fit, x);
  picture.x.log = (options.log_x && !picture.bars) || !options.fit.empty();
  picture.y.log = options.log_y || !options.fit.empty();
  picture.x.label = options.x_label.empty() ? column_name(x) : options.x_label;
  picture.y.label = options.y_label.empty() ? column_name(y) : options.y_label;
  bool held = false;
  picture.curves = gather(data, columns, names, picture.x.log, picture.y.log, &held);
  if (!options.fit.empty()) std::for_each(picture.curves.begin(), picture.curves.end(), fit);
  set_words(picture, data, columns);
  if (held) picture.caption += "; runs that ended stay at their last value";
  set_axes(picture, names, last_part(y).find("acc_") != std::string::npos);
  if (!picture.bars) thin_out(picture, options.width);
  return picture;
}

}  // namespace klab
