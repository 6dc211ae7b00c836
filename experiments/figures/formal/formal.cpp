// SPDX-License-Identifier: Apache-2.0
// Formal languages: which mixers solve them, trained at short lengths and tested at longer ones.
#include "experiments/figures/formal/formal_scores.h"
#include "experiments/figures/study_report/study_report.h"

namespace klab {
namespace {

// Mamba-3 (arXiv 2603.15569), table 5; docs/tasks.md has more.
const std::vector<PublishedScores>& published() {
  static const std::vector<PublishedScores> all = {
      {"Mamba-3", {{"parity", 100}, {"arithmetic", 98.5}, {"brackets", 87.8}}},
      {"GDN with negative eigenvalues", {{"parity", 100}, {"arithmetic", 99.3}, {"brackets", 93.5}}},
      {"Mamba-2", {{"parity", 0.9}, {"arithmetic", 47.8}, {"brackets", 0.9}}}};
  return all;
}

constexpr const char* kColumns =
    "Accuracy on test data in percent, scaled so that a uniform guess has 0, (accuracy - chance) / (1 - chance): mean "
    "over seeds with its 95 % interval. `1x` is the trained length; `test.also` in [study.yaml](study.yaml) has the "
    "others.";

constexpr const char* kPublished =
    "Published: [Mamba-3](https://arxiv.org/abs/2603.15569), table 5. The protocols differ. There: a curriculum of "
    "lengths from 3 to 40, then up to 160, 10,000 steps of 256 sequences each, one layer for parity and three for "
    "arithmetic, a state of width 64, and the best of eight learning rates. Here: ";

constexpr const char* kBeyond =
    "The claims beyond the trained length, by accuracies that are not scaled; a family of its own, adjusted together:";

std::vector<std::string> appendix_of(const Study& study, const std::vector<TaskScore>& scores) {
  if (scores.empty()) return {};
  std::vector<std::string> lines{"", "## Published beside ours", "", kColumns, ""};
  const auto append = [&](const std::vector<std::string>& more) {
    lines.insert(lines.end(), more.begin(), more.end());
  };
  append(score_table(scores, published()));
  append({"", kPublished + training_text(study) + "; means over seeds, not the best run."});
  const std::vector<std::string> verdicts = longer_verdicts(scores, study.config);
  if (!verdicts.empty()) append({"", "## Beyond the trained length", "", kBeyond, ""});
  append(verdicts);
  return lines;
}

void run(const ReproduceOptions& options) {
  const Study study = run_figure("formal", options);
  const StudyVerdicts verdicts = judge_study(study);
  const std::vector<TaskScore> scores = formal_scores(verdicts.cells);
  write_study_report(study, verdicts, options.out, "Formal languages", {}, appendix_of(study, scores),
                     write_scores(scores, study, options.out));
  print_verdicts("formal", verdicts, options.out);
}

}  // namespace

Reproduction formal_reproduction() {
  return {"formal", "with negative or complex eigenvalues mixers solve formal languages beyond the trained length", run,
          /*has_paper_scale=*/true, /*has_seeds=*/true};
}

}  // namespace klab
