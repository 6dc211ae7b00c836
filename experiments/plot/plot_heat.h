// Heat maps: a number as colour over two others.
#pragma once

#include <string>

#include "experiments/plot/plot.h"
#include "experiments/plot/plot_data.h"

namespace klab {

/// A gnuplot script: a panel for each value of options.group_by, cells in the order of their numbers, with the number
/// written in each where there is room. Throws UsageError without x and y, or when there are too many cells.
std::string heat_script(const PlotData& data, const PlotOptions& options, const std::string& terminal);

}  // namespace klab
