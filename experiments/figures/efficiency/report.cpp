// SPDX-License-Identifier: Apache-2.0
#include "experiments/figures/efficiency/report.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/base/provenance.h"
#include "core/base/text.h"
#include "experiments/plot/gnuplot.h"

namespace klab {
namespace {

constexpr int64_t kLayers = 27, kExperts = 256, kVocabulary = 163840, kChunk = 2048;

const char* colour_of(int number) { return number == 1 ? "#c0392b" : number == 2 ? "#2e86c1" : "#1e8449"; }

}  // namespace

const ReportedCurves& reported_prefill_seconds() {
  static const ReportedCurves curves = {{"MLA", {.07, .10, .18, .36, .80, 2.00, 5.76, 18.63, 65.46}},
                                        {"GDN hybrid", {.10, .12, .18, .33, .62, 1.34, 3.10, 7.85, 22.42}},
                                        {"KDA hybrid", {.10, .12, .19, .33, .64, 1.40, 3.22, 8.07, 22.75}}};
  return curves;
}

const ReportedCurves& reported_tpot_ms() {
  static const ReportedCurves curves = {{"MLA", {5.32, 5.37, 6.20, 6.52, 6.88, 7.67, 9.10, 11.96, 17.76}},
                                        {"GDN hybrid", {5.07, 5.07, 5.32, 5.39, 5.48, 5.75, 5.97, 6.62, 7.94}},
                                        {"KDA hybrid", {5.09, 5.12, 5.37, 5.41, 5.53, 5.74, 6.00, 6.66, 7.99}}};
  return curves;
}

const ReportedCurves& reported_batched_tpot_ms() {
  static const ReportedCurves curves = {{"MLA", {.093, .134, .213, .400, .781, 1.83, 3.10, 5.88, 11.48}},
                                        {"KDA hybrid", {.10, .09, .09, .10, .15, .46, .65, 1.05, 1.84}}};
  return curves;
}

std::vector<int64_t> report_lengths() {
  std::vector<int64_t> lengths;
  for (int64_t tokens = 4096; tokens <= 1 << 20; tokens *= 2) lengths.push_back(tokens);
  return lengths;
}

void draw_curves(const std::string& out, const std::string& title, const std::string& y,
                 const std::vector<EfficiencyCurve>& curves) {
  std::string data, plots;
  for (size_t i = 0; i < curves.size(); ++i) {
    data += fmt::format("$c{} << EOD\n", i);
    for (const auto& [x, value] : curves[i].points) data += fmt::format("{} {}\n", x, value);
    data += "EOD\n";
    const char* colour = colour_of(curves[i].colour);
    const std::string style = curves[i].style == EfficiencyCurve::Style::measured
                                  ? fmt::format("with linespoints pt 7 ps 1.1 lw 2 lc rgb '{}'", colour)
                              : curves[i].style == EfficiencyCurve::Style::extrapolated
                                  ? fmt::format("with lines dt 2 lw 2 lc rgb '{}'", colour)
                                  : fmt::format("with points pt 4 ps 1.3 lw 1.5 lc rgb '{}'", colour);
    plots += fmt::format("{}$c{} {} title '{}'", i == 0 ? "plot " : ", ", i, style, curves[i].name);
  }
  run_gnuplot(fmt::format("set terminal pngcairo size 1000,720 font 'sans,13'\nset title '{}'\nset logscale xy\n"
                          "set xtics ('4K' 4096, '16K' 16384, '64K' 65536, '256K' 262144, '1M' 1048576)\n"
                          "set xlabel 'tokens'\nset ylabel '{}'\nset grid\nset key below maxrows 3 font ',11'\nset "
                          "xrange [3500:1250000]\n{}{}\n",
                          title, y, data, plots),
              out);
}

double whole_model_seconds(const StackKind& kind, const std::string& phase, int64_t batch, int64_t tokens,
                           const Rates& rates) {
  const ModelConfig config = stack_config(kind, stack_scale("small"), kLayers, kExperts);
  if (phase == "prefill") return rates.seconds(prefill_work(config, kChunk, tokens));
  Work work = decode_work(config, batch, tokens);
  work.weight_bytes += 2.0 * static_cast<double>(kVocabulary * config.width);  // the head
  work.product_flops += 2.0 * static_cast<double>(batch) * static_cast<double>(kVocabulary * config.width);
  return rates.seconds(work);
}

std::string describe(const Rates& rates) {
  std::vector<std::string> parts;
  if (rates.bytes > 0) parts.push_back(fmt::format("weights {:.1f} GB/s", rates.bytes / 1e9));
  if (rates.products > 0) parts.push_back(fmt::format("products {:.0f} GFLOP/s", rates.products / 1e9));
  if (rates.attention > 0) parts.push_back(fmt::format("attention {:.0f} GFLOP/s", rates.attention / 1e9));
  return fmt::format("{}; largest error of the fit {:.0f} %", join(parts), 100 * rates.worst_error);
}

std::vector<Measured> read_measured(const ReproduceOptions& options, std::string& command) {
  const CsvTable table = read_csv(options.out + "/measured.csv");
  const std::string marker = "command: ";
  for (const std::string& comment : table.comments) {
    if (comment.rfind(marker, 0) == 0) command = comment.substr(marker.size());
  }
  const StackScale scale = stack_scale(options.scale);
  std::vector<Measured> all;
  for (const std::vector<std::string>& row : table.rows) {
    Measured one{row[table.column("stack")],
                 row[table.column("phase")],
                 std::stoll(row[table.column("tokens")]),
                 std::stoll(row[table.column("batch")]),
                 std::stod(row[table.column("seconds")]),
                 {}};
    for (const StackKind& kind : stack_kinds()) {
      if (kind.name != one.stack) continue;
      const ModelConfig config = stack_config(kind, scale, scale.layers, scale.experts);
      one.work = one.phase == "prefill" ? prefill_work(config, scale.chunk, one.tokens)
                                        : decode_work(config, one.batch, one.tokens);
    }
    all.push_back(one);
  }
  return all;
}

void write_results(const ReproduceOptions& options, const EfficiencyResults& results) {
  make_writable_folder(options.out);
  std::vector<std::string> comments = provenance(options.command_line, at::get_num_threads());
  if (options.redraw) comments = read_csv(options.out + "/measured.csv").comments;
  CsvTable measured{comments, {"stack", "phase", "tokens", "batch", "seconds", "fitted_seconds"}, {}};
  for (const Measured& one : results.measured) {
    measured.rows.push_back({one.stack, one.phase, fmt::format("{}", one.tokens), fmt::format("{}", one.batch),
                             fmt::format("{:.5g}", one.seconds),
                             fmt::format("{:.5g}", results.of(one.phase).seconds(one.work))});
  }
  write_file(options.out + "/measured.csv", measured.text());
  CsvTable model{comments, {"stack", "phase", "tokens", "batch", "seconds"}, results.extrapolated};
  model.comments.push_back("EXTRAPOLATED to 27 layers of the 48B shape by the rates fitted to measured.csv");
  for (const char* phase : {"prefill", "decode"}) {
    model.comments.push_back(fmt::format("{}: {}", phase, describe(results.of(phase))));
  }
  write_file(options.out + "/extrapolated.csv", model.text());
  write_file(options.out + "/page.md", join(results.page, "\n") + "\n");
}

}  // namespace klab
