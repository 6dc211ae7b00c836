// SPDX-License-Identifier: Apache-2.0
// The results of klab inspect --surgery: CSV, pictures, page.
#pragma once

#include <string>
#include <vector>

#include "core/base/csv.h"
#include "experiments/inspect/surgery.h"

namespace klab {

/// A row per run, number of pairs and operation. Standard errors are in columns `_se`; cells that are not defined are
/// empty.
CsvTable surgery_table(const std::vector<Surgery>& all, const std::vector<std::string>& provenance);

/// A text table of each run with its most pairs.
std::string surgery_summary(const std::vector<Surgery>& all);

/// Draws the pictures into `folder`, a curve per run, and returns a self-contained HTML page that embeds them.
std::string surgery_page(const std::vector<Surgery>& all, const std::vector<std::string>& provenance,
                         const std::string& folder);

}  // namespace klab
