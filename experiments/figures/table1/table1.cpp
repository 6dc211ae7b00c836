// SPDX-License-Identifier: Apache-2.0
// Table 1: ablations of the hybrid, on the synthetic language.
#include <fmt/format.h>

#include <cmath>
#include <map>

#include "experiments/figures/study_report/study_report.h"

namespace klab {
namespace {

// Training and validation perplexity, as reported.
const std::map<std::string, std::pair<double, double>>& reported() {
  static const std::map<std::string, std::pair<double, double>> all = {{"3:1", {9.23, 5.65}},
                                                                       {"0:1", {9.45, 5.77}},
                                                                       {"1:1", {9.29, 5.66}},
                                                                       {"7:1", {9.23, 5.70}},
                                                                       {"15:1", {9.34, 5.82}},
                                                                       {"no output gate", {9.25, 5.67}},
                                                                       {"swish output gate", {9.43, 5.81}},
                                                                       {"no convolution", {9.29, 5.70}}};
  return all;
}

std::string row_of(const std::string& label, const std::vector<const RunSummary*>& runs) {
  double perplexity = 0, shifted = 0, excess = 0, shifted_excess = 0;
  int64_t seeds = 0;
  for (const RunSummary* run : runs) {
    const std::optional<LanguageLosses> losses = language_losses(*run);
    if (!losses) continue;
    perplexity += std::exp(losses->loss);
    shifted += std::exp(losses->shifted);
    excess += losses->excess;
    shifted_excess += losses->shifted_excess;
    ++seeds;
  }
  if (seeds == 0) return fmt::format("| {} | - | - | - | - | 0 |", label);
  const auto n = static_cast<double>(seeds);
  return fmt::format("| {} | {:.3f} | {:.3f} | {:.4f} | {:.4f} | {} |", label, perplexity / n, shifted / n, excess / n,
                     shifted_excess / n, seeds);
}

constexpr const char* kColumnsOfTable =
    "Means over seeds, at the end of training: on test data of the training distribution and on shifted data, and the "
    "loss above the entropy of the source in nats per token. The last columns are the report's perplexities of "
    "training and of validation text.";

std::vector<std::string> table_lines(const StudyVerdicts& verdicts) {
  std::vector<std::string> lines = {
      "",
      "## Perplexity",
      "",
      kColumnsOfTable,
      "",
      "| | perplexity | shifted | above entropy | shifted | seeds | report: training | validation |",
      "|---|---|---|---|---|---|---|---|"};
  for (const StudyCell& cell : verdicts.cells) {
    for (const auto& [label, runs] : cell.runs) {
      const auto found = reported().find(label);
      const std::string theirs = found == reported().end()
                                     ? " - | - |"
                                     : fmt::format(" {:.2f} | {:.2f} |", found->second.first, found->second.second);
      lines.push_back(row_of(label, runs) + theirs);
    }
  }
  return lines;
}

void run(const ReproduceOptions& options) {
  const Study study = run_figure("table1", options);
  const StudyVerdicts verdicts = judge_study(study);
  write_study_report(study, verdicts, options.out, "Table 1: ablations of the hybrid", {}, table_lines(verdicts));
  print_verdicts("table1", verdicts, options.out);
}

}  // namespace

Reproduction table1_reproduction() {
  return {"table1", "three KDA layers per attention layer, a sigmoid output gate and short convolutions are best", run,
          /*has_paper_scale=*/true, /*has_seeds=*/true};
}

}  // namespace klab
