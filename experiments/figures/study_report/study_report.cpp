// SPDX-License-Identifier: Apache-2.0
#include "experiments/figures/study_report/study_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/base/text.h"
#include "experiments/plot/plot.h"
#include "experiments/plot/plot_data.h"

namespace klab {
namespace {

// For file names: "palindrome-33".
std::string file_part(const std::vector<Value>& values) {
  std::string text;
  for (const Value& value : values) text += (text.empty() ? "" : "-") + short_text(value);
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return std::isalnum(c) == 0 && c != '-' && c != '.'; }, '_');
  return text;
}

std::vector<std::string> conditions(const std::vector<std::string>& keys, const std::vector<Value>& values) {
  std::vector<std::string> all;
  for (size_t i = 0; i < values.size(); ++i) all.push_back(fmt::format("{}={}", keys[i], text_of(values[i])));
  return all;
}

std::vector<std::string> texts_of(const StudyCell& cell) {
  std::vector<std::string> texts;
  for (const Value& value : cell.values) texts.push_back(text_of(value));
  return texts;
}

bool has_outcome(const StudyCell& cell, const std::string& metric) {
  return std::any_of(cell.runs.begin(), cell.runs.end(),
                     [&](const auto& one) { return !outcomes(one.second, metric).empty(); });
}

// With more compared values a picture with all of them would be refused.
bool fits_a_picture(const StudyCell& cell) { return cell.runs.size() <= kMostCurves; }

// The primary outcome of every run, in which diverged runs count as in the verdicts.
void write_outcomes(const Study& study, const StudyVerdicts& verdicts, const std::string& path) {
  CsvTable table{study.provenance, study.config.cells, {}};
  table.columns.insert(table.columns.end(), {study.config.compare, "train.seed", study.config.metric});
  for (const StudyCell& cell : verdicts.cells) {
    for (const auto& [name, runs] : cell.runs) {
      for (const RunSummary* run : runs) {
        std::vector<std::string> cells = texts_of(cell);
        cells.insert(cells.end(), {name, text_of(run->field("train.seed"))});
        for (const double value : outcomes({run}, study.config.metric)) {  // none of a loss that diverged
          cells.push_back(fmt::format("{:.6f}", value));
          table.rows.push_back(cells);
        }
      }
    }
  }
  write_file(path, table.text());
}

// Bars of the mean and a dot per seed over the last of the cells' keys, one picture for each combination of the others.
std::vector<std::string> draw_outcomes(const Study& study, const StudyVerdicts& verdicts, const std::string& out) {
  std::vector<std::string> files;
  std::vector<std::vector<Value>> drawn;
  write_outcomes(study, verdicts, out + "/outcomes.csv");
  for (const StudyCell& cell : verdicts.cells) {
    if (!has_outcome(cell, study.config.metric) || !fits_a_picture(cell)) continue;
    const std::vector<Value> outer(cell.values.begin(),
                                   cell.values.empty() ? cell.values.end() : cell.values.end() - 1);
    if (std::find(drawn.begin(), drawn.end(), outer) != drawn.end()) continue;
    drawn.push_back(outer);
    PlotOptions bars;
    bars.files = {out + "/outcomes.csv"};
    bars.where = conditions(study.config.cells, outer);
    bars.x = study.config.cells.empty() ? study.config.compare : study.config.cells.back();
    bars.y = study.config.metric;
    bars.group_by = study.config.compare;
    bars.bars = true;
    bars.title = short_text(outer);
    files.push_back(outer.empty() ? "outcome.png" : fmt::format("outcome-{}.png", file_part(outer)));
    bars.out = out + "/" + files.back();
    plot(bars);
  }
  return files;
}

PlotOptions cell_picture(const Study& study, const StudyCell& cell, const std::string& file) {
  PlotOptions picture;
  picture.files = {file};
  picture.where = conditions(study.config.cells, cell.values);
  picture.x = "step";
  picture.group_by = study.config.compare;
  picture.title = short_text(cell.values);
  return picture;
}

bool evaluated(const StudyCell& cell) {
  return std::any_of(cell.runs.begin(), cell.runs.end(), [](const auto& one) {
    return std::any_of(one.second.begin(), one.second.end(),
                       [](const RunSummary* run) { return run->record.evaluated; });
  });
}

// Rows of a step function: at every time, and one training step before it. Rows of one time would be drawn as their
// mean.
void add_survival(CsvTable& table, const std::vector<std::string>& cells, const std::vector<Time>& times) {
  double drawn = 0;  // up to this step
  const auto row = [&](double step, double waiting) {
    std::vector<std::string> all = cells;
    all.insert(all.end(), {fmt::format("{:.0f}", step), fmt::format("{:.6f}", waiting)});
    table.rows.push_back(std::move(all));
    drawn = step;
  };
  double waiting = 1, last = 0;
  row(0, waiting);
  for (const SurvivalStep& step : kaplan_meier(times)) {
    if (step.time - 1 > drawn) row(step.time - 1, waiting);
    row(step.time, waiting = step.survival);
  }
  for (const Time& time : times) last = std::max(last, time.value);
  if (last > drawn) row(last, waiting);
}

void write_survival(const Study& study, const StudyVerdicts& verdicts, const std::string& path) {
  CsvTable table{study.provenance, study.config.cells, {}};
  table.columns.insert(table.columns.end(), {study.config.compare, "step", "share_waiting"});
  for (const StudyCell& cell : verdicts.cells) {
    for (const auto& [name, runs] : cell.runs) {
      std::vector<std::string> cells = texts_of(cell);
      cells.push_back(name);
      add_survival(table, cells, times_of(runs, study.config));
    }
  }
  write_file(path, table.text());
}

std::vector<std::string> draw_cells(const Study& study, const StudyVerdicts& verdicts, const std::string& out) {
  write_survival(study, verdicts, out + "/survival.csv");
  std::vector<std::string> files;
  for (const StudyCell& cell : verdicts.cells) {
    if (!fits_a_picture(cell)) continue;
    if (evaluated(cell)) {
      PlotOptions curves = cell_picture(study, cell, out + "/curves.csv");
      curves.y = study.config.reach;
      files.push_back(fmt::format("curves-{}.png", file_part(cell.values)));
      curves.out = out + "/" + files.back();
      plot(curves);
    }
    PlotOptions waiting = cell_picture(study, cell, out + "/survival.csv");
    waiting.y = "share_waiting";
    waiting.y_label = fmt::format("share of runs below {} = {:g}", study.config.reach, study.config.reach_at);
    files.push_back(fmt::format("waiting-{}.png", file_part(cell.values)));
    waiting.out = out + "/" + files.back();
    plot(waiting);
  }
  return files;
}

}  // namespace

void print_verdicts(const std::string& name, const StudyVerdicts& verdicts, const std::string& out) {
  for (const std::string& line : verdict_counts(verdicts)) fmt::print("{}\n", line);
  fmt::print("{}: {}/page.md\n", name, out);
}

StudyOptions study_options(const ReproduceOptions& options) {
  StudyOptions how;
  how.out = options.out;
  how.command_line = options.command_line;
  how.budget_hours = options.budget_hours;
  how.device = options.device;
  how.quiet = options.quiet;
  return how;
}

StudyFile read_figure(const std::string& name, const ReproduceOptions& options) {
  std::vector<Assignment> seed;
  if (options.seed) seed.push_back({"train.seed", *options.seed, "--seed"});
  return read_builtin_study(fmt::format("figures/{}/{}.yaml", name, options.scale), seed);
}

Study run_figure(const std::string& name, const ReproduceOptions& options) {
  return run_study(read_figure(name, options), study_options(options));
}

void write_study_report(const Study& study, const StudyVerdicts& verdicts, const std::string& out,
                        const std::string& title, const std::vector<std::string>& introduction,
                        const std::vector<std::string>& appendix, const std::vector<std::string>& pictures) {
  std::vector<std::string> lines{"# " + title, ""};
  const auto append = [&](const std::vector<std::string>& more) {
    lines.insert(lines.end(), more.begin(), more.end());
  };
  append(introduction);
  append(study_page(study, verdicts));
  append(appendix);
  if (!verdicts.cells.empty()) {
    append({"", "## Pictures", ""});
    std::vector<std::string> files = pictures;
    for (const auto& more : {draw_outcomes(study, verdicts, out), draw_cells(study, verdicts, out)}) {
      files.insert(files.end(), more.begin(), more.end());
    }
    for (const std::string& file : files) lines.push_back(fmt::format("![{0}]({0})", file));
  }
  write_file(out + "/page.md", join(lines, "\n") + "\n");
}

}  // namespace klab
