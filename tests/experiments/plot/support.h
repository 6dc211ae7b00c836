// SPDX-License-Identifier: Apache-2.0
// Tables for plots.
#pragma once

#include <string>

#include "core/base/file.h"
#include "core/base/support.h"
#include "experiments/plot/plot.h"
#include "experiments/plot/plot_data.h"
#include "experiments/plot/plot_picture.h"

namespace klab {

/// The rows of a CSV text that `options` keep.
inline PlotData plot_data(const std::string& csv, PlotOptions options = {}) {
  const Folder folder;
  write_file(folder / "a.csv", csv);
  options.files = {folder / "a.csv"};
  return read_plot_data(options);
}

/// What is drawn of a CSV text.
inline Picture picture_of(const std::string& csv, const PlotOptions& options = {}) {
  const PlotData data = plot_data(csv, options);
  return compose_picture(data, choose_columns(data, options), options);
}

}  // namespace klab
