// SPDX-License-Identifier: Apache-2.0
// Accuracies of mixers on tasks beside published ones: a table, a CSV file and a heat map.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/base/csv.h"
#include "experiments/study/study.h"

namespace klab {

/// The accuracy of one mixer on one task at one length, over seeds.
struct TaskScore {
  std::string mixer, task;
  std::string length;                             ///< "4x": in trained lengths; empty where there is only one
  double chance = 0;                              ///< accuracy of a uniform guess
  std::vector<std::pair<int64_t, double>> seeds;  ///< seed and accuracy

  std::vector<double> accuracies() const;
};

/// The accuracy scaled so that `chance` has 0.
double scaled_accuracy(double accuracy, double chance);

/// Published scores of a model.
struct PublishedScores {
  std::string mixer;                                    ///< as in TaskScore, or a model that is not measured here
  std::vector<std::pair<std::string, double>> percent;  ///< by task
};

/// A row per mixer and length, a column per task with the scaled accuracy in percent, mean over seeds and its 95 %
/// interval, and a column per task with published scores, which stand at a mixer's last length. "-" where there are
/// none.
std::vector<std::string> score_table(const std::vector<TaskScore>& scores,
                                     const std::vector<PublishedScores>& published);

/// A row per seed, with the accuracy and the scaled accuracy.
CsvTable scores_csv(const std::vector<TaskScore>& scores, const std::vector<std::string>& provenance);

/// Writes OUT/scores.csv and draws OUT/scores.png, a heat map of tasks and mixers for every length; returns the name of
/// the picture, or nothing if there are no scores.
std::vector<std::string> write_scores(const std::vector<TaskScore>& scores, const Study& study, const std::string& out);

/// "2000 steps of 32 sequences of 32 tokens, 2 layers of width 64, 2 heads of 16; the learning rate is the best of 2 on
/// validation data", from the runs of the study.
std::string training_text(const Study& study);

}  // namespace klab
