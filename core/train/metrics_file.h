// SPDX-License-Identifier: Apache-2.0
// The metrics.csv of a run.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/csv.h"
#include "core/train/status.h"

namespace klab {

/// Opens the run's metrics.csv to append rows, and makes the folder of its checkpoints. `columns` include step and
/// split. With `resume`, the last rows are removed that are of steps after `step`, which will be repeated, or of split
/// test, and columns that an earlier version did not have are added. The time does not depend on the length of the
/// file, unless columns are added. Throws UsageError for a file with other columns, or whose steps are no numbers.
std::unique_ptr<CsvWriter> open_metrics(const RunFolder& folder, const std::vector<std::string>& provenance,
                                        const std::vector<std::string>& columns, bool resume, int64_t step);

}  // namespace klab
