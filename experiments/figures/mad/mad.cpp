// SPDX-License-Identifier: Apache-2.0
// MAD: six synthetic tasks, for all mixers.
#include "experiments/figures/study_report/study_report.h"
#include "experiments/figures/task_scores/task_scores.h"

namespace klab {
namespace {

PublishedScores published_row(const std::string& mixer, const std::vector<double>& percent) {
  PublishedScores row{mixer, {}};
  const std::vector<std::string> tasks = {"compression",  "fuzzy_recall", "in_context_recall",
                                          "memorization", "noisy_recall", "selective_copy"};
  for (size_t i = 0; i < tasks.size(); ++i) row.percent.emplace_back(tasks[i], percent[i]);
  return row;
}

const std::vector<PublishedScores>& published() {
  static const std::vector<PublishedScores> all = {
      published_row("deltanet", {42, 36, 100, 53, 100, 100}), published_row("rwkv7", {45, 43, 100, 89, 100, 99}),
      published_row("gla", {39, 7, 81, 63, 82, 89}), published_row("Mamba", {53, 7, 90, 90, 90, 86})};
  return all;
}

constexpr const char* kColumns =
    "Share of tokens right on test data in percent: mean over seeds with its 95 % interval. A run that diverged has 0.";

constexpr const char* kPublished =
    "Published: DeltaNet, and GLA and Mamba from Poli et al., in [DeltaNet](https://arxiv.org/abs/2406.06484); "
    "[RWKV-7](https://arxiv.org/abs/2503.14456). The protocols differ. There, as in "
    "[MAD](https://arxiv.org/abs/2403.17844): means over variations of each task (length, vocabulary, training "
    "sequences, noise), a fixed set of training sequences, models of two layers of width 128, a decoder of its own for "
    "compression, and the best of three learning rates with and without weight decay. Here: one setting of each task "
    "in [study.yaml](study.yaml), new sequences in every step, compression answered by the model itself, ";

std::vector<TaskScore> mad_scores(const std::vector<StudyCell>& cells, const std::string& metric) {
  std::vector<TaskScore> scores;
  for (const StudyCell& cell : cells) {
    for (const auto& [mixer, runs] : cell.runs) {
      TaskScore& score = scores.emplace_back(TaskScore{mixer, short_text(cell.values), "", 0, {}});
      for (const RunSummary* run : runs) {
        score.seeds.emplace_back(run->field("train.seed").get<int64_t>(), outcomes({run}, metric).front());
      }
    }
  }
  return scores;
}

std::vector<std::string> appendix_of(const Study& study, const std::vector<TaskScore>& scores) {
  if (scores.empty()) return {};
  std::vector<std::string> lines{"", "## Published beside ours", "", kColumns, ""};
  const std::vector<std::string> table = score_table(scores, published());
  lines.insert(lines.end(), table.begin(), table.end());
  lines.insert(lines.end(), {"", kPublished + training_text(study) + "; means over seeds, not the best run."});
  return lines;
}

void run(const ReproduceOptions& options) {
  const Study study = run_figure("mad", options);
  const StudyVerdicts verdicts = judge_study(study);
  const std::vector<TaskScore> scores = mad_scores(verdicts.cells, study.config.metric);
  write_study_report(study, verdicts, options.out, "MAD", {}, appendix_of(study, scores),
                     write_scores(scores, study, options.out));
  print_verdicts("mad", verdicts, options.out);
}

}  // namespace

Reproduction mad_reproduction() {
  return {"mad", "the six tasks of MAD for all mixers", run, /*has_paper_scale=*/true, /*has_seeds=*/true};
}

}  // namespace klab
