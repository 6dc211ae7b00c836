// SPDX-License-Identifier: Apache-2.0
// The HTML report of klab inspect.
#pragma once

#include <string>
#include <vector>

#include "experiments/inspect/inspection.h"
#include "experiments/inspect/tables.h"

namespace klab {

/// Draws every picture into `folder` and returns a self-contained HTML page that embeds them.
std::string inspection_report(const Inspection& found, const std::vector<NamedTable>& tables,
                              const std::vector<std::string>& provenance, const std::string& folder);

}  // namespace klab
