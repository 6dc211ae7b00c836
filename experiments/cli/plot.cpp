// SPDX-License-Identifier: Apache-2.0
// klab plot: plots any results CSV.
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "core/base/file.h"
#include "experiments/command/command.h"
#include "experiments/plot/plot.h"

namespace klab {

Command plot_command() {
  return {"plot", "draw results CSVs to PNG or SVG (default: out/plot.png)",
          "./klab plot runs/*/metrics.csv --y acc_seq --out accuracy.svg", takes::out,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<PlotOptions>();
            app.add_option("FILES", options->files, "CSV files or run folders").required();
            app.add_option("--x", options->x, "column for the x axis (default: step, else the first that varies)");
            app.add_option("--y", options->y, "column for the y axis (default: acc_seq, else loss, else the last)");
            app.add_option("--split", options->split,
                           "rows to keep: train, validation, test or all (default: validation)");
            app.add_option("--group-by", options->group_by,
                           "columns that identify a curve, or none (default: those that vary)");
            app.add_option("--where", options->where, "only rows with column=value; may be repeated").one_each();
            app.add_option("--heat", options->heat,
                           "column drawn as colour over --x and --y: a heat map for each --group-by");
            app.add_option("--fit", options->fit, "power: fit factor x^exponent to each curve, and print the fit")
                .one_of({"power"});
            app.add_flag("--bars", options->bars, "bars, also for numeric x");
            app.add_option("--title", options->title, "title");
            app.add_option("--x-label", options->x_label, "label of the x axis");
            app.add_option("--y-label", options->y_label, "label of the y axis");
            app.add_flag("--log-x", options->log_x, "logarithmic x axis");
            app.add_flag("--log-y", options->log_y, "logarithmic y axis");
            app.add_option("--width", options->width, "pixels").between(200, 10000).show_default();
            app.add_option("--height", options->height, "pixels").between(150, 10000).show_default();
            app.add_option("--font-scale", options->font_scale, "size of all text").between(0.2, 5.0);
            return [options, &globals] {
              options->out = globals.out.empty() ? "out/plot.png" : globals.out;
              for (const std::string& file : options->files) require_input(file);
              if (globals.out.empty()) make_writable_folder("out");
              for (std::string& file : options->files) {
                if (std::filesystem::is_directory(file)) file += "/metrics.csv";
              }
              for (const std::string& fit : plot(*options)) fmt::print("{}\n", fit);
              fmt::print("{}\n", options->out);
              return 0;
            };
          }};
}

}  // namespace klab
