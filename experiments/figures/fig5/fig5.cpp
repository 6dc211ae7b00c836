// SPDX-License-Identifier: Apache-2.0
// Figure 5 and table 2: loss over compute of attention alone and of hybrids, on the synthetic language.
#include <algorithm>

#include "core/base/file.h"
#include "experiments/figures/fig5/scaling_page.h"
#include "experiments/figures/study_report/study_report.h"
#include "experiments/plot/plot.h"

namespace klab {
namespace {

void write(CsvTable table, const Study& study, const std::string& path) {
  table.comments = study.provenance;
  write_file(path, table.text());
}

// Every run as a dot, and the lines where all architectures have one.
void draw(const std::vector<ArchitectureFit>& fits, const std::string& out) {
  PlotOptions picture;
  picture.files = {out + "/points.csv"};
  picture.x = "teraflops";
  picture.y = "test_loss";
  picture.group_by = "architecture";
  picture.log_x = picture.log_y = true;
  if (std::all_of(fits.begin(), fits.end(), [](const auto& fit) { return fit.line.has_value(); }))
    picture.fit = "power";
  picture.x_label = "training compute (TFLOPs)";
  picture.y_label = "test loss (nats per token)";
  picture.out = out + "/scaling.png";
  plot(picture);
}

// The lines of the page; writes the tables and the picture.
std::vector<std::string> report(const Study& study, const StudyVerdicts& verdicts, const std::string& out) {
  const std::vector<ScalingSize> sizes = scaling_sizes(verdicts.cells);
  const std::vector<ArchitectureFit> fits = fit_architectures(sizes);
  std::vector<ComputeAdvantage> advantages;
  for (const Claim& claim : verdicts.claims) advantages.push_back(compute_advantage(fits, claim));
  write(points_table(sizes), study, out + "/points.csv");
  write(fits_table(fits), study, out + "/fits.csv");
  write(ratios_table(advantages), study, out + "/ratios.csv");
  std::vector<std::string> lines = scaling_lines(sizes, fits, advantages);
  if (std::any_of(sizes.begin(), sizes.end(), [](const ScalingSize& size) { return !size.runs.empty(); })) {
    draw(fits, out);
    lines.emplace_back("![scaling.png](scaling.png)");
  }
  return lines;
}

void run(const ReproduceOptions& options) {
  const Study study = run_figure("fig5", options);
  const StudyVerdicts verdicts = judge_study(study);
  write_study_report(study, verdicts, options.out, "Figure 5: scaling laws", {}, report(study, verdicts, options.out));
  print_verdicts("fig5", verdicts, options.out);
}

}  // namespace

Reproduction fig5_reproduction() {
  return {"fig5", "attention alone needs 1.16 times the compute of a KDA hybrid for the same loss", run,
          /*has_paper_scale=*/true, /*has_seeds=*/true};
}

}  // namespace klab
