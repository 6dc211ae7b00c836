// SPDX-License-Identifier: Apache-2.0
#include "experiments/plot/plot_data.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>
#include <set>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "core/base/error.h"
#include "core/base/text.h"
#include "experiments/plot/plot.h"

namespace klab {

std::string last_part(const std::string& column) { return column.substr(column.rfind('.') + 1); }

std::optional<double> parse_number(const std::string& text) {
  double value = 0;
  const bool plus = text.size() > 1 && text[0] == '+' && text[1] != '-';  // std::from_chars knows no '+'
  const char* end = text.data() + text.size();
  const auto [stop, status] = std::from_chars(text.data() + (plus ? 1 : 0), end, value);
  if (status != std::errc{} || stop != end) return std::nullopt;
  return value;
}

std::vector<std::string> PlotData::values(size_t column, size_t most) const {
  std::vector<std::string> found;
  std::unordered_set<std::string_view> seen;
  for (const auto& row : table.rows) {
    if (found.size() == most) break;
    if (seen.insert(row[column]).second) found.push_back(row[column]);
  }
  return found;
}

bool PlotData::varies(size_t column) const {
  return std::any_of(table.rows.begin(), table.rows.end(),
                     [&](const auto& row) { return row[column] != table.rows.front()[column]; });
}

void sort_as_numbers(std::vector<std::string>& texts) {
  std::stable_sort(texts.begin(), texts.end(),
                   [](const auto& a, const auto& b) { return parse_number(a) < parse_number(b); });
}

std::vector<std::string> PlotData::ordered_values(size_t column) const {
  std::vector<std::string> all = values(column);
  if (is_numeric(column)) sort_as_numbers(all);
  return all;
}

bool PlotData::is_numeric(size_t column) const {
  bool any = false;
  for (const auto& row : table.rows) {
    if (row[column].empty()) continue;
    if (!parse_number(row[column])) return false;
    any = true;
  }
  return any;
}

bool PlotData::has_values(size_t column) const {
  return std::any_of(table.rows.begin(), table.rows.end(), [&](const auto& row) { return !row[column].empty(); });
}

PlotData PlotData::with_values(const std::vector<size_t>& columns) const {
  PlotData kept;
  kept.table.columns = table.columns;
  for (size_t row = 0; row < sources.size(); ++row) {
    if (std::any_of(columns.begin(), columns.end(), [&](size_t column) { return cell(row, column).empty(); })) continue;
    kept.table.rows.push_back(table.rows[row]);
    kept.sources.push_back(sources[row]);
  }
  return kept;
}

std::string PlotData::key(size_t row, const std::vector<size_t>& columns) const {
  std::string key;
  for (const size_t column : columns) key += cell(row, column) + '\n';  // cells have no line breaks
  return key;
}

namespace {

namespace fs = std::filesystem;

// Numeric columns that are settings and not results; only these can define curves.
const std::set<std::string> kParameters = {"lr",    "length",   "width", "layers", "heads",
                                           "pairs", "head_dim", "vocab", "batch"};

bool is_seed(const std::string& column) { return last_part(column) == "seed"; }

// Runs are named by their folder, or by the whole path if folder names are not unique.
std::vector<std::string> run_names(const std::vector<std::string>& files) {
  std::vector<std::string> names;
  for (const std::string& file : files) {
    names.push_back(fs::absolute(file).lexically_normal().parent_path().filename().string());
  }
  const bool distinct = std::set<std::string>(names.begin(), names.end()).size() == files.size();
  return distinct ? names : files;
}

// Appends the rows of a file under the columns of `data`; cells of columns that the file does not have are empty.
void append_rows(PlotData& data, CsvTable table, const std::string& file, const std::string& run) {
  std::vector<std::optional<size_t>> from;
  for (const std::string& column : data.table.columns) {
    from.push_back(table.has(column) ? std::optional(table.column(column)) : std::nullopt);
  }
  const bool runs = data.table.has("run") && !table.has("run");
  for (size_t row = 0; row < table.rows.size(); ++row) {
    std::vector<std::string> cells;
    for (const auto& column : from) cells.push_back(column ? std::move(table.rows[row][*column]) : std::string());
    if (runs) cells[data.table.column("run")] = run;
    data.table.rows.push_back(std::move(cells));
    data.sources.push_back({file, row + 1});
  }
}

PlotData read_files(const std::vector<std::string>& files) {
  if (files.empty()) refuse("nothing to draw: name at least one CSV file");
  const std::vector<std::string> runs = run_names(files);
  std::vector<CsvTable> tables;
  PlotData data;
  const auto add_column = [&](const std::string& name) {
    if (!data.table.has(name)) data.table.columns.push_back(name);
  };
  for (const std::string& file : files) {
    tables.push_back(read_csv(file));
    if (tables.back().rows.empty()) {
      fail("{}: it has a header and no rows, so there is nothing to draw", file);
    }
    for (const std::string& column : tables.back().columns) add_column(column);
  }
  if (files.size() > 1) add_column("run");
  for (size_t i = 0; i < files.size(); ++i) append_rows(data, std::move(tables[i]), files[i], runs[i]);
  return data;
}

void keep_rows(PlotData& data, size_t column, const std::string& wanted) {
  PlotData kept;
  kept.table.columns = data.table.columns;
  for (size_t row = 0; row < data.sources.size(); ++row) {
    if (data.cell(row, column) != wanted) continue;
    kept.table.rows.push_back(data.table.rows[row]);
    kept.sources.push_back(data.sources[row]);
  }
  data = std::move(kept);
}

// Texts in a message.
std::string listed(const std::vector<std::string>& texts) {
  constexpr size_t kShown = 30;
  if (texts.size() <= kShown) return join(texts);
  return fmt::format("{} and {} others", join({texts.begin(), texts.begin() + kShown}), texts.size() - kShown);
}

// Keeps the rows of the wanted split; by default those of validation, or of test in files of earlier versions, because
// train rows exist at the same steps, if they have values of y.
void keep_split(PlotData& data, std::string wanted, const std::string& y) {
  if (!data.table.has("split")) {
    if (!wanted.empty() && wanted != "all") refuse("split = {}: the file has no column 'split'", wanted);
    return;
  }
  const size_t column = data.table.column("split");
  const std::vector<std::string> splits = data.values(column);
  const auto has = [&](const char* split) { return std::find(splits.begin(), splits.end(), split) != splits.end(); };
  if (wanted.empty()) {
    const bool named = data.table.has(y);
    const std::vector<std::string> drawn = named ? data.with_values({data.table.column(y)}).values(column) : splits;
    const auto draws = [&](const char* split) { return std::find(drawn.begin(), drawn.end(), split) != drawn.end(); };
    wanted = draws("validation") ? "validation" : draws("test") ? "test" : "all";
  }
  if (wanted == "all") return;
  if (!has(wanted.c_str())) {
    refuse("split = {}: no row is of that split. Splits: {}, all", wanted, listed(splits));
  }
  keep_rows(data, column, wanted);
}

// "column=value"; a list with one item is also matched by that item.
void keep_where(PlotData& data, const std::string& condition) {
  const size_t equals = condition.find('=');
  if (equals == std::string::npos) refuse("where = {}: must be column=value", condition);
  const size_t column = data.table.column(condition.substr(0, equals));
  const std::string wanted = condition.substr(equals + 1);
  const std::vector<std::string> values = data.values(column);
  for (const std::string& cell : {wanted, "[" + wanted + "]"}) {
    if (std::find(values.begin(), values.end(), cell) != values.end()) return keep_rows(data, column, cell);
  }
  refuse("where = {}: no row has that. There are: {}", condition, listed(values));
}

size_t choose_y(const PlotData& data, const std::string& wanted) {
  if (!wanted.empty()) return data.table.column(wanted);
  for (const char* usual : {"acc_seq", "loss"}) {
    if (data.table.has(usual) && data.has_values(data.table.column(usual))) return data.table.column(usual);
  }
  for (size_t column = data.table.columns.size(); column-- > 0;) {
    if (data.is_numeric(column) && !is_seed(data.name(column))) return column;
  }
  refuse("no column holds numbers, so there is nothing to draw. Columns: {}", join(data.table.columns));
}

bool has_two_values(const PlotData& data, size_t column) {
  const std::string* first = nullptr;
  for (size_t row = 0; row < data.sources.size(); ++row) {
    const std::string& cell = data.cell(row, column);
    if (cell.empty()) continue;
    if (first != nullptr && cell != *first) return true;
    first = &cell;
  }
  return false;
}

// `data`: the rows with a value of y.
size_t choose_x(const PlotData& data, const std::string& wanted, size_t y) {
  if (!wanted.empty()) return data.table.column(wanted);
  if (data.table.has("step") && data.has_values(data.table.column("step"))) return data.table.column("step");
  for (const bool numeric : {true, false}) {
    for (size_t column = 0; column < data.table.columns.size(); ++column) {
      if (column == y || is_seed(data.name(column)) || !has_two_values(data, column)) continue;
      if (data.is_numeric(column) == numeric) return column;
    }
  }
  refuse("no other column varies, so '{}' has no x axis; name one as x. Columns: {}", data.name(y),
         join(data.table.columns));
}

// Whether rows that agree in the columns `alike` differ in `column`, where they have a value of it.
bool differs_among(const PlotData& data, const std::vector<size_t>& alike, size_t column) {
  std::unordered_map<std::string, std::string_view> seen;
  for (size_t row = 0; row < data.sources.size(); ++row) {
    if (data.cell(row, column).empty()) continue;
    const auto [at, fresh] = seen.emplace(data.key(row, alike), data.cell(row, column));
    if (!fresh && at->second != data.cell(row, column)) return true;
  }
  return false;
}

// Whether a setting was varied: it has several values at one x. A schedule (lr over the steps of a run) has only one.
bool was_varied(const PlotData& data, size_t column, std::vector<size_t> groups, size_t x) {
  if (kParameters.count(last_part(data.name(column))) == 0 || !data.is_numeric(column)) return false;
  if (data.values(column, kMostCurves + 1).size() > kMostCurves) return false;
  groups.push_back(x);
  return differs_among(data, groups, column);
}

// The default groups: text columns that vary, settings that were varied, and the run, if otherwise rows of different
// runs with the same seed would share a curve.
std::vector<size_t> usual_groups(const PlotData& data, const PlotColumns& columns) {
  const size_t count = data.table.columns.size();
  const size_t run = data.table.has("run") ? data.table.column("run") : count;
  const auto drawn = [&](size_t column) { return column == columns.x || column == columns.y; };
  std::vector<size_t> texts;
  for (size_t column = 0; column < count; ++column) {
    if (drawn(column) || column == run) continue;
    if (data.varies(column) && !data.is_numeric(column)) texts.push_back(column);
  }
  std::vector<size_t> groups = texts;
  for (size_t column = 0; column < count; ++column) {
    if (!drawn(column) && was_varied(data, column, texts, columns.x)) groups.push_back(column);
  }
  std::vector<size_t> repeats = groups;
  if (columns.seed) repeats.push_back(*columns.seed);
  if (run != count && run != columns.x && differs_among(data, repeats, run)) groups.push_back(run);
  return groups;
}

std::vector<size_t> choose_groups(const PlotData& data, const PlotColumns& columns, const std::string& wanted) {
  if (wanted.empty()) return usual_groups(data, columns);
  if (wanted == "none") return {};
  std::vector<size_t> groups;
  for (const std::string& name : split(wanted, ',')) groups.push_back(data.table.column(name));
  return groups;
}

}  // namespace

PlotData read_plot_data(const PlotOptions& options) {
  PlotData data = read_files(options.files);
  keep_split(data, options.split, options.y);
  for (const std::string& condition : options.where) keep_where(data, condition);
  return data;
}

PlotColumns choose_columns(const PlotData& all, const PlotOptions& options) {
  PlotColumns columns{};
  columns.y = choose_y(all, options.y);
  const PlotData measured = all.with_values({columns.y});
  if (measured.sources.empty()) {
    fail("{}: no row has a value of {}, so there is nothing to draw", all.sources.front().file, all.name(columns.y));
  }
  columns.x = choose_x(measured, options.x, columns.y);
  if (columns.x == columns.y) refuse("x and y are both the column '{}'", all.name(columns.x));
  const PlotData data = plotted_rows(all, columns);
  for (size_t column = 0; column < data.table.columns.size(); ++column) {
    if (is_seed(data.name(column)) && data.varies(column)) columns.seed = column;
  }
  columns.groups = choose_groups(data, columns, options.group_by);
  return columns;
}

PlotData plotted_rows(const PlotData& data, const PlotColumns& columns) {
  PlotData points = data.with_values({columns.x, columns.y});
  if (!points.sources.empty()) return points;
  fail("{}: no row has values of both {} and {}, so there is nothing to draw", data.sources.front().file,
       data.name(columns.x), data.name(columns.y));
}

}  // namespace klab
