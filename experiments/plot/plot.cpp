// SPDX-License-Identifier: Apache-2.0
#include "experiments/plot/plot.h"

#include <filesystem>

#include "core/base/error.h"
#include "experiments/plot/gnuplot.h"
#include "experiments/plot/plot_data.h"
#include "experiments/plot/plot_heat.h"
#include "experiments/plot/plot_picture.h"
#include "experiments/plot/plot_script.h"

namespace klab {
namespace {

std::string terminal_for(const std::string& out) {
  const std::string ending = std::filesystem::path(out).extension().string();
  if (ending == ".png") return "pngcairo";
  if (ending == ".svg") return "svg";
  refuse("out = {} ends in '{}'; pictures are .png or .svg", out, ending);
}

void check(const PlotOptions& options) {
  if (!options.fit.empty() && (options.bars || !options.heat.empty())) {
    refuse("fit = {}: a line needs points, not bars or a heat map", options.fit);
  }
  if (options.width < 200 || options.width > 10000) {
    refuse("width = {} must lie in 200 to 10000 pixels", options.width);
  }
  if (options.height < 150 || options.height > 10000) {
    refuse("height = {} must lie in 150 to 10000 pixels", options.height);
  }
  if (!(options.font_scale >= 0.2 && options.font_scale <= 5)) {
    refuse("font_scale = {} must lie in 0.2 to 5", options.font_scale);
  }
}

}  // namespace

std::vector<std::string> plot(const PlotOptions& options) {
  const std::string terminal = terminal_for(options.out);
  check(options);
  const PlotData data = read_plot_data(options);
  if (!options.heat.empty()) {
    run_gnuplot(heat_script(data, options, terminal), options.out);
    return {};
  }
  const Picture picture = compose_picture(data, choose_columns(data, options), options);
  run_gnuplot(gnuplot_script(picture, options, terminal), options.out);
  std::vector<std::string> fits;
  for (const PlotCurve& curve : picture.curves) {
    if (curve.fit) fits.push_back(curve.name);
  }
  return fits;
}

}  // namespace klab
