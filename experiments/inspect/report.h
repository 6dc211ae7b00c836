// The page that explains what klab inspect found.
#pragma once

#include <string>
#include <vector>

#include "experiments/inspect/inspection.h"
#include "experiments/inspect/tables.h"

namespace klab {

/// Draws every picture into `folder` and returns the page that holds them all: HTML without anything beside it.
std::string inspection_report(const Inspection& found, const std::vector<NamedTable>& tables,
                              const std::vector<std::string>& provenance, const std::string& folder);

}  // namespace klab
