// SPDX-License-Identifier: Apache-2.0
// gnuplot scripts of pictures.
#pragma once

#include <string>

#include "experiments/plot/plot.h"
#include "experiments/plot/plot_picture.h"

namespace klab {

/// A script for run_gnuplot(); `terminal` is gnuplot's name of the output format.
std::string gnuplot_script(const Picture& picture, const PlotOptions& options, const std::string& terminal);

}  // namespace klab
