// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/study_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "core/base/text.h"
#include "experiments/study/bounded_mean.h"

namespace klab {
namespace {

using Rows = std::vector<std::vector<Judgement>>;
using Runs = std::vector<const RunSummary*>;

// Judges all claims in all cells as one family.
template <class Compare>
Rows judge_all(const StudyVerdicts& verdicts, const Compare& compare) {
  std::vector<Comparison> family;
  for (const StudyCell& cell : verdicts.cells) {
    for (const Claim& claim : verdicts.claims) family.push_back(compare(cell.of(claim.better), cell.of(claim.than)));
  }
  if (family.empty()) return {};
  const std::vector<Judgement> all = judge(family);
  Rows rows;
  for (size_t i = 0; i < verdicts.cells.size(); ++i) {
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(i * verdicts.claims.size());
    rows.emplace_back(first, first + static_cast<std::ptrdiff_t>(verdicts.claims.size()));
  }
  return rows;
}

std::vector<double> solved_values(const std::vector<const RunSummary*>& runs, double at) {
  std::vector<double> values = outcomes(runs, "best_test_acc_seq");
  for (double& value : values) value = value >= at ? 1 : 0;
  return values;
}

// The runs of the seeds that both have; for losses, without the seeds of which a run diverged.
std::pair<Runs, Runs> pairs_of(const Runs& x, const Runs& y, const std::string& metric) {
  const auto counts = [&](const RunSummary& run) {
    return !metric.ends_with("loss") || run.record.state != RunState::diverged;
  };
  std::pair<Runs, Runs> pairs;
  for (const RunSummary* one : x) {
    for (const RunSummary* other : y) {
      if (one->field("train.seed") != other->field("train.seed") || !counts(*one) || !counts(*other)) continue;
      pairs.first.push_back(one);
      pairs.second.push_back(other);
    }
  }
  return pairs;
}

Question of_kind(const StudyConfig& study, TestKind test) {
  Question question;
  question.test = test;
  question.alpha = study.alpha;
  if (test == TestKind::log_rank) {
    question.direction = Direction::less;
    question.unit = {"steps", 1};
  }
  return question;
}

bool in_percent(const std::string& metric) { return !metric.ends_with("loss"); }

std::string number(double value, const std::string& metric) {
  return in_percent(metric) ? fmt::format("{:.1f}", 100 * value) : fmt::format("{:.4f}", value);
}

std::string signed_number(double value, const std::string& metric) {
  return in_percent(metric) ? fmt::format("{:+.1f}", 100 * value) : fmt::format("{:+.4f}", value);
}

std::string mean_text(const std::vector<double>& values, const std::string& metric) {
  if (values.empty()) return "-";
  const std::string mean = number(mean_of(values), metric);
  if (values.size() < 2) return mean;
  if (in_percent(metric)) {
    const Interval interval = mean_interval(values, {0, 1});
    return fmt::format("{} [{}, {}]", mean, number(interval.low, metric), number(interval.high, metric));
  }
  const Estimate e = estimate(values);
  return fmt::format("{} [{}, {}]", mean, number(e.low(), metric), number(e.high(), metric));
}

std::string effect_text(const Judgement& judgement, const std::string& metric) {
  if (judgement.verdict == Verdict::not_measured) return "-";
  const Interval interval = judgement.shift_interval.value_or(judgement.interval);
  // With few seeds the test excludes no difference.
  if (!std::isfinite(interval.low) || !std::isfinite(interval.high)) return signed_number(judgement.effect, metric);
  return fmt::format("{} [{}, {}]", signed_number(judgement.effect, metric), signed_number(interval.low, metric),
                     signed_number(interval.high, metric));
}

std::string share_text(const std::vector<double>& values) {
  if (values.empty()) return "-";
  const Share share{std::count(values.begin(), values.end(), 1.0), static_cast<int64_t>(values.size())};
  const Interval interval = clopper_pearson(share);
  return fmt::format("{} of {} [{:.0f}, {:.0f} %]", share.successes, share.trials, 100 * interval.low,
                     100 * interval.high);
}

std::string median_text(const std::vector<Time>& times) {
  if (times.empty()) return "-";
  const auto reached = std::count_if(times.begin(), times.end(), [](const Time& time) { return time.reached; });
  const std::optional<double> median = median_time(times);
  const std::string runs = fmt::format("{} of {}", reached, times.size());
  return median ? fmt::format("{:.0f} ({})", *median, runs) : fmt::format("not reached ({})", runs);
}

std::vector<std::string> compared_values(const StudyVerdicts& verdicts) {
  std::vector<std::string> names;
  for (const StudyCell& cell : verdicts.cells) {
    for (const auto& [name, runs] : cell.runs) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  return names;
}

// "task" for task.name and task.label, "length" for task.length.
std::string short_key(const std::string& key) {
  const size_t dot = key.rfind('.');
  const bool is_name = key.ends_with(".name") || key.ends_with(".label");
  return is_name ? key.substr(0, dot) : key.substr(dot + 1);
}

// A table with a row per cell: a column for every compared value, then the columns of every claim.
class CellTable {
 public:
  CellTable(const StudyVerdicts& verdicts, const StudyConfig& study) : verdicts_(verdicts) {
    for (const std::string& key : study.cells) head_.push_back(short_key(key));
    names_ = compared_values(verdicts);
    head_.insert(head_.end(), names_.begin(), names_.end());
  }

  void add_heads(const std::vector<std::string>& per_claim) {
    for (const Claim& claim : verdicts_.claims) {
      for (const std::string& head : per_claim) head_.push_back(fmt::format(fmt::runtime(head), claim.text()));
    }
  }

  template <class OfRuns, class OfClaim>
  std::vector<std::string> lines(const OfRuns& of_runs, const OfClaim& of_claim) const {
    std::vector<std::string> all{row(head_), "|" + repeated("---|", head_.size())};
    for (size_t i = 0; i < verdicts_.cells.size(); ++i) {
      const StudyCell& cell = verdicts_.cells[i];
      std::vector<std::string> cells;
      for (const Value& value : cell.values) cells.push_back(short_text(value));
      for (const std::string& name : names_) cells.push_back(of_runs(cell.of(name)));
      for (size_t c = 0; c < verdicts_.claims.size(); ++c) {
        for (const std::string& text : of_claim(i, c)) cells.push_back(text);
      }
      all.push_back(row(cells));
    }
    return all;
  }

 private:
  static std::string row(const std::vector<std::string>& cells) { return "| " + join(cells, " | ") + " |"; }
  static std::string repeated(const std::string& text, size_t count) {
    std::string all;
    for (size_t i = 0; i < count; ++i) all += text;
    return all;
  }

  const StudyVerdicts& verdicts_;
  std::vector<std::string> head_, names_;
};

void append(std::vector<std::string>& lines, const std::vector<std::string>& more) {
  lines.insert(lines.end(), more.begin(), more.end());
}

std::vector<std::string> primary_table(const Study& study, const StudyVerdicts& verdicts) {
  const std::string& metric = study.config.metric;
  CellTable table(verdicts, study.config);
  table.add_heads({"{}: difference", "verdict"});
  return table.lines([&](const auto& runs) { return mean_text(outcomes(runs, metric), metric); },
                     [&](size_t cell, size_t claim) {
                       const Judgement& judgement = verdicts.primary[cell][claim];
                       return std::array{effect_text(judgement, metric), verdict_text(judgement, verdicts.question)};
                     });
}

std::vector<std::string> solved_table(const Study& study, const StudyVerdicts& verdicts) {
  const Question question = of_kind(study.config, TestKind::fisher);
  CellTable table(verdicts, study.config);
  table.add_heads({"{}"});
  return table.lines(
      [&](const auto& runs) { return share_text(solved_values(runs, study.config.solved_at)); },
      [&](size_t cell, size_t claim) { return std::array{verdict_text(verdicts.solved[cell][claim], question)}; });
}

std::vector<std::string> steps_table(const Study& study, const StudyVerdicts& verdicts) {
  const Question question = of_kind(study.config, TestKind::log_rank);
  CellTable table(verdicts, study.config);
  table.add_heads({"{}"});
  return table.lines(
      [&](const auto& runs) { return median_text(times_of(runs, study.config)); },
      [&](size_t cell, size_t claim) { return std::array{verdict_text(verdicts.steps[cell][claim], question)}; });
}

std::string chosen_text(const std::vector<const RunSummary*>& runs, const std::string& key) {
  return runs.empty() ? "-" : short_text(runs.front()->field(key));
}

std::vector<std::string> stated(const Study& study, const StudyVerdicts& verdicts) {
  const StudyConfig& config = study.config;
  const std::string test = config.paired ? "exact permutation test of differences by seed (sign flips)"
                                         : "exact permutation test of the difference of means over seeds";
  std::string equality = "Equality is not asked.";
  if (config.margin > 0) {
    equality = fmt::format("Equal means that the difference lies within {:g} {}: {}.",
                           config.margin / verdicts.question.unit.size, verdicts.question.unit.name,
                           verdicts.question.range
                               ? "two one-sided tests without any assumption on the distributions over seeds"
                               : "two one-sided tests for distributions over seeds that differ by a shift (a failure "
                                 "that no seed showed is not excluded)");
  }
  std::string choice = fmt::format("`{}` is given by the file; nothing was chosen.", config.choose);
  if (!study.search.empty()) {
    choice = fmt::format(
        "`{}` was chosen per cell and mixer by `{}` on validation data, with seeds that are not used "
        "again; test data decide nothing.",
        config.choose, config.choose_by);
  }
  return {
      fmt::format("- Primary outcome: `{}` of the {} step, {} new seeds per cell and mixer; {}.", config.metric,
                  config.metric.starts_with("best_") ? "best" : "last", config.seeds, test),
      "- " + equality,
      fmt::format(
          "- Any wrong verdict on the primary outcome has a probability of at most {:g} (Holm's adjustment over "
          "all cells and claims).",
          config.alpha),
      "- " + choice,
      fmt::format("- Secondary: runs that solved the task (`best_test_acc_seq` of at least {:g}; intervals of Clopper "
                  "and Pearson, Fisher's exact test) and steps until `{}` on validation data reached {:g} (Kaplan and "
                  "Meier's median, exact log-rank test).",
                  config.solved_at, config.reach, config.reach_at)};
}

std::vector<std::string> provenance_lines(const Study& study) {
  std::vector<std::string> lines{"", "## How to repeat it", "", "```"};
  append(lines, study.provenance);
  lines.emplace_back("```");
  return lines;
}

}  // namespace

StudyVerdicts judge_study(const Study& study) {
  StudyVerdicts verdicts{study.config.claim_list(), cells_of(study), study.config.primary(), {}, {}, {}};
  const std::string& metric = study.config.metric;
  verdicts.primary = judge_all(verdicts, [&](const Runs& all_x, const Runs& all_y) {
    const auto [x, y] = study.config.paired ? pairs_of(all_x, all_y, metric) : std::pair(all_x, all_y);
    return Comparison{verdicts.question, outcomes(x, metric), outcomes(y, metric), {}, {}};
  });
  verdicts.solved = judge_all(verdicts, [&](const Runs& x, const Runs& y) {
    return Comparison{of_kind(study.config, TestKind::fisher),
                      solved_values(x, study.config.solved_at),
                      solved_values(y, study.config.solved_at),
                      {},
                      {}};
  });
  verdicts.steps = judge_all(verdicts, [&](const Runs& x, const Runs& y) {
    return Comparison{
        of_kind(study.config, TestKind::log_rank), {}, {}, times_of(x, study.config), times_of(y, study.config)};
  });
  return verdicts;
}

std::vector<std::string> verdict_counts(const StudyVerdicts& verdicts) {
  std::vector<std::string> lines;
  if (verdicts.cells.empty()) return lines;
  for (size_t claim = 0; claim < verdicts.claims.size(); ++claim) {
    std::vector<std::string> parts;
    const auto count = [&](Verdict wanted, const char* name) {
      const auto n = std::count_if(verdicts.primary.begin(), verdicts.primary.end(),
                                   [&](const auto& row) { return row[claim].verdict == wanted; });
      if (n > 0) parts.push_back(fmt::format("{} in {}", name, n));
    };
    count(Verdict::held, "held");
    count(Verdict::reversed, "reversed");
    count(Verdict::equal, "equal within the margin");
    count(Verdict::undecided, "not decided");
    count(Verdict::not_measured, "not measured");
    const size_t cells = verdicts.cells.size();
    lines.push_back(fmt::format("{}: {} of {} {}.", verdicts.claims[claim].text(), join(parts), cells,
                                cells == 1 ? "cell" : "cells"));
  }
  return lines;
}

std::vector<std::string> study_page(const Study& study, const StudyVerdicts& verdicts) {
  std::vector<std::string> lines;
  if (!study.config.question.empty()) append(lines, {study.config.question, ""});
  append(lines, {"Stated in [study.yaml](study.yaml) before anything ran:", ""});
  append(lines, stated(study, verdicts));
  if (study.out_of_time) {
    append(lines, {"", "**Incomplete**: the time limit was reached; repeating the command continues."});
  }
  if (verdicts.cells.empty()) {
    append(lines, provenance_lines(study));
    return lines;
  }
  append(lines, {"", "## Verdicts", ""});
  for (const std::string& line : verdict_counts(verdicts)) lines.push_back("- " + line);
  append(lines, {"",
                 fmt::format("`{}`{}: mean over seeds with its 95 % interval; differences with the exact interval that "
                             "belongs to the test; p-values adjusted.{}",
                             study.config.metric, in_percent(study.config.metric) ? " in %" : "",
                             in_percent(study.config.metric) ? "" : " A claim holds if the loss is smaller."),
                 ""});
  append(lines, primary_table(study, verdicts));
  append(lines,
         {"", fmt::format("Runs that solved the task (`best_test_acc_seq` of at least {:g}):", study.config.solved_at),
          ""});
  append(lines, solved_table(study, verdicts));
  append(lines,
         {"",
          fmt::format("Steps until `{}` on validation data reached {:g}: median, and runs that got there. A claim "
                      "holds here if it takes fewer steps.",
                      study.config.reach, study.config.reach_at),
          ""});
  append(lines, steps_table(study, verdicts));
  append(lines, {"", fmt::format("{} `{}`:", study.search.empty() ? "Given" : "Chosen", study.config.choose), ""});
  CellTable table(verdicts, study.config);
  append(lines, table.lines([&](const auto& runs) { return chosen_text(runs, study.config.choose); },
                            [](size_t, size_t) { return std::array<std::string, 0>{}; }));
  append(lines, provenance_lines(study));
  return lines;
}

}  // namespace klab
