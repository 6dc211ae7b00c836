// SPDX-License-Identifier: Apache-2.0
#include "experiments/figures/task_scores/task_scores.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/file.h"
#include "core/base/text.h"
#include "experiments/plot/plot.h"
#include "experiments/study/bounded_mean.h"

namespace klab {
namespace {

constexpr int64_t kPixels = 300, kPixelsPerMixer = 30;  // of the height of the heat map

using Names = std::vector<std::string>;

void add(Names& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

// The distinct values of a member, in order of appearance.
Names distinct(const std::vector<TaskScore>& scores, std::string TaskScore::*member) {
  Names names;
  for (const TaskScore& score : scores) add(names, score.*member);
  return names;
}

std::string percent_text(const TaskScore& score) {
  if (score.seeds.empty()) return "-";
  const auto percent = [&](double accuracy) {
    return fmt::format("{:.1f}", 100 * scaled_accuracy(accuracy, score.chance));
  };
  const std::vector<double> values = score.accuracies();
  if (values.size() < 2) return percent(values.front());
  const Interval interval = mean_interval(values, {0, 1});
  return fmt::format("{} [{}, {}]", percent(mean_of(values)), percent(interval.low), percent(interval.high));
}

std::string published_text(const std::vector<PublishedScores>& published, const std::string& mixer,
                           const std::string& task) {
  for (const PublishedScores& one : published) {
    for (const auto& [name, percent] : one.percent) {
      if (one.mixer == mixer && name == task) return fmt::format("{:g}", percent);
    }
  }
  return "-";
}

std::string row_of(const Names& cells) { return "| " + join(cells, " | ") + " |"; }

// The tasks and rows of the table.
class ScoreTable {
 public:
  ScoreTable(const std::vector<TaskScore>& scores, const std::vector<PublishedScores>& published)
      : scores_(scores),
        published_(published),
        mixers_(distinct(scores, &TaskScore::mixer)),
        tasks_(distinct(scores, &TaskScore::task)),
        lengths_(distinct(scores, &TaskScore::length)) {
    for (const PublishedScores& one : published) {
      add(mixers_, one.mixer);
      for (const auto& [task, percent] : one.percent) add(published_tasks_, task);
    }
  }

  std::vector<std::string> lines() const {
    std::vector<std::string> lines{row_of(head()), row_of(Names(head().size(), "---"))};
    for (const std::string& mixer : mixers_) {
      const Names lengths = lengths_of(mixer);
      for (const std::string& length : lengths) lines.push_back(row_of(row(mixer, length, length == lengths.back())));
    }
    return lines;
  }

 private:
  bool has_lengths() const { return lengths_.size() > 1 || !lengths_.front().empty(); }

  // A model that is not measured here has one row.
  Names lengths_of(const std::string& mixer) const {
    Names lengths;
    for (const TaskScore& score : scores_) {
      if (score.mixer == mixer) add(lengths, score.length);
    }
    return lengths.empty() ? Names{lengths_.back()} : lengths;
  }

  Names head() const {
    Names cells{"mixer"};
    if (has_lengths()) cells.emplace_back("length");
    cells.insert(cells.end(), tasks_.begin(), tasks_.end());
    for (const std::string& task : published_tasks_) cells.push_back("published: " + task);
    return cells;
  }

  Names row(const std::string& mixer, const std::string& length, bool is_last) const {
    Names cells{mixer};
    if (has_lengths()) cells.push_back(length);
    for (const std::string& task : tasks_) cells.push_back(measured_text(mixer, task, length));
    for (const std::string& task : published_tasks_) {
      cells.push_back(is_last ? published_text(published_, mixer, task) : "");
    }
    return cells;
  }

  std::string measured_text(const std::string& mixer, const std::string& task, const std::string& length) const {
    for (const TaskScore& score : scores_) {
      if (score.mixer == mixer && score.task == task && score.length == length) return percent_text(score);
    }
    return "-";
  }

  const std::vector<TaskScore>& scores_;
  const std::vector<PublishedScores>& published_;
  Names mixers_, tasks_, lengths_, published_tasks_;
};

// "1 or 2": the values of a key in the runs.
std::string values_text(const std::vector<RunSummary>& runs, const std::string& key) {
  Names values;
  for (const RunSummary& run : runs) add(values, text_of(run.field(key)));
  return join(values, " or ");
}

std::string choice_text(const Study& study) {
  Names rates;
  for (const RunSummary& run : study.search) add(rates, text_of(run.field(study.config.choose)));
  if (rates.empty()) return fmt::format("`{}` is given", study.config.choose);
  return fmt::format("`{}` is the best of {} on validation data", study.config.choose, rates.size());
}

}  // namespace

std::vector<double> TaskScore::accuracies() const {
  std::vector<double> values;
  for (const auto& [seed, accuracy] : seeds) values.push_back(accuracy);
  return values;
}

double scaled_accuracy(double accuracy, double chance) { return (accuracy - chance) / (1 - chance); }

std::vector<std::string> score_table(const std::vector<TaskScore>& scores,
                                     const std::vector<PublishedScores>& published) {
  if (scores.empty()) return {};
  return ScoreTable(scores, published).lines();
}

CsvTable scores_csv(const std::vector<TaskScore>& scores, const std::vector<std::string>& provenance) {
  CsvTable table{provenance, {"mixer", "task", "length", "train.seed", "accuracy", "scaled_accuracy"}, {}};
  for (const TaskScore& score : scores) {
    for (const auto& [seed, accuracy] : score.seeds) {
      table.rows.push_back({score.mixer, score.task, score.length, fmt::format("{}", seed),
                            fmt::format("{:.6f}", accuracy),
                            fmt::format("{:.6f}", scaled_accuracy(accuracy, score.chance))});
    }
  }
  return table;
}

std::vector<std::string> write_scores(const std::vector<TaskScore>& scores, const Study& study,
                                      const std::string& out) {
  const CsvTable table = scores_csv(scores, study.provenance);
  if (table.rows.empty()) return {};
  write_file(out + "/scores.csv", table.text());
  PlotOptions heat;
  heat.files = {out + "/scores.csv"};
  const bool scaled = std::any_of(scores.begin(), scores.end(), [](const TaskScore& one) { return one.chance > 0; });
  heat.heat = scaled ? "scaled_accuracy" : "accuracy";
  heat.x = "task";
  heat.y = "mixer";
  const bool has_lengths = !scores.front().length.empty();
  heat.group_by = has_lengths ? "length" : "none";
  heat.title =
      has_lengths ? "Accuracy by task and mixer, at multiples of the trained length" : "Accuracy by task and mixer";
  heat.width = has_lengths ? 2400 : 1500;
  const auto mixers = static_cast<int64_t>(distinct(scores, &TaskScore::mixer).size());
  heat.height = std::max(heat.height, kPixels + kPixelsPerMixer * mixers);
  heat.out = out + "/scores.png";
  plot(heat);
  return {"scores.png"};
}

std::string training_text(const Study& study) {
  const auto values = [&](const char* key) { return values_text(study.measured, key); };
  return fmt::format("{} steps of {} sequences of up to {} tokens, {} layers of width {}, {} heads of {}; {}",
                     values("train.steps"), values("train.batch"), values("task.length"), values("model.layers"),
                     values("model.width"), values("model.heads"), values("model.head_dim"), choice_text(study));
}

}  // namespace klab
