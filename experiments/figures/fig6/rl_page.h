// SPDX-License-Identifier: Apache-2.0
// The tables of figure 6's page.
#pragma once

#include <string>
#include <vector>

#include "core/base/csv.h"
#include "experiments/study/summary.h"

namespace klab {

/// A row for every row of the runs' metrics.csv: label, rl.ptx_weight, train.seed, step, split, accuracy, reward, kl,
/// entropy, length; an empty cell where the split has no such number.
CsvTable iterations_table(const std::vector<RunSummary>& runs);

/// The accuracy of greedy answers over iterations beside the report's numbers, and the accuracy on the supervised tasks
/// before and after, with intervals over seeds; from iterations_table().
std::vector<std::string> rl_lines(const CsvTable& iterations);

}  // namespace klab
