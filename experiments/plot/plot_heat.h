// SPDX-License-Identifier: Apache-2.0
// Heat maps: one column as colour over two others.
#pragma once

#include <string>

#include "experiments/plot/plot.h"
#include "experiments/plot/plot_data.h"

namespace klab {

/// A gnuplot script with a panel for each value of options.group_by, sorted axes, and the number in each cell if it
/// fits. Throws UsageError without x and y, or if there are too many cells.
std::string heat_script(const PlotData& data, const PlotOptions& options, const std::string& terminal);

}  // namespace klab
