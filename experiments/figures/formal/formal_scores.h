// SPDX-License-Identifier: Apache-2.0
// Scores of a study of formal languages at the trained length and beyond it.
#pragma once

#include <string>
#include <vector>

#include "experiments/figures/task_scores/task_scores.h"

namespace klab {

/// The accuracy of a uniform guess among the possible answers of the run's task.
double chance_of(const RunSummary& run);

/// Accuracies on test data, from the evaluations.csv of the runs, at the trained length ("1x") and at those of
/// test.also. A run that diverged counts as a uniform guess.
std::vector<TaskScore> formal_scores(const std::vector<StudyCell>& cells);

/// The claims of the study at the lengths beyond the trained one, judged as one family of accuracies.
std::vector<std::string> longer_verdicts(const std::vector<TaskScore>& scores, const StudyConfig& config);

}  // namespace klab
