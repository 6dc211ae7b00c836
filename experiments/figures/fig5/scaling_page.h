// SPDX-License-Identifier: Apache-2.0
// A scaling study as tables of its page and as CSV.
#pragma once

#include <string>
#include <vector>

#include "experiments/figures/fig5/scaling_runs.h"

namespace klab {

/// The section "Scaling": points, laws beside the published ones, and what the differences are worth in compute.
std::vector<std::string> scaling_lines(const std::vector<ScalingSize>& sizes, const std::vector<ArchitectureFit>& fits,
                                       const std::vector<ComputeAdvantage>& advantages);

/// A row per finished run, per fitted architecture, and per claim with a ratio.
CsvTable points_table(const std::vector<ScalingSize>& sizes);
CsvTable fits_table(const std::vector<ArchitectureFit>& fits);
CsvTable ratios_table(const std::vector<ComputeAdvantage>& advantages);

}  // namespace klab
