// SPDX-License-Identifier: Apache-2.0
// Equations 13 and 14: FLOPs of KDA and attention over the length, and measured times.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <chrono>

#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/base/provenance.h"
#include "core/base/text.h"
#include "experiments/bench/operators.h"
#include "experiments/bench/timing.h"
#include "experiments/plot/plot.h"
#include "experiments/run/device.h"
#include "experiments/study/reproduction.h"
#include "kernels/attention/attention.h"

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kChunk = 64;

// Equation 13, per head: 6 T d^2 + 3 T C d + T C^2.
double kda_flops(double tokens, double width) {
  return 6 * tokens * width * width + 3 * tokens * kChunk * width + tokens * kChunk * kChunk;
}
// Equation 14, per head: 2 T^2 d.
double attention_flops(double tokens, double width) { return 2 * tokens * tokens * width; }

// The length at which attention's FLOPs exceed KDA's.
double crossing(double width) { return kda_flops(1, width) / (2 * width); }

struct Setting {
  int64_t shortest, longest, heads, width;
  at::ScalarType dtype;
  double seconds = 0.5;  // per measurement
};

Setting setting_of(const std::string& scale) {
  if (scale == "smoke") return {64, 256, 2, 64, at::kFloat, 0.02};
  if (scale == "small") return {128, 16384, 8, 128, at::kFloat};
  return {128, 131072, 16, 128, at::kBFloat16};
}

struct Point {
  int64_t tokens;
  double kda, attention;  // seconds
};

std::vector<Point> measure(const ReproduceOptions& options, const Setting& s) {
  const auto device = open_device(options.device);
  const auto end = Clock::now() + std::chrono::milliseconds(static_cast<int64_t>(options.budget_hours * 3.6e6));
  const torch::NoGradGuard no_grad;
  std::vector<Point> points;
  for (int64_t tokens = s.shortest; tokens <= s.longest && Clock::now() < end; tokens *= 2) {
    const auto in = operator_inputs("kda", {tokens, s.heads, s.width, torch::dtype(s.dtype).device(device)});
    Point& point = points.emplace_back(Point{tokens, 0, 0});
    point.kda = median_seconds([&] { kernels::recurrence(in); }, in.q, s.seconds);
    kernels::AttentionInputs attention;
    attention.q = in.q;
    attention.k = in.k;
    attention.v = in.v;
    attention.scale = 1 / std::sqrt(static_cast<double>(s.width));
    point.attention = median_seconds([&] { kernels::attention(attention); }, in.q, s.seconds);
    if (!options.quiet) {
      fmt::print(stderr, "{} tokens: KDA {:.3f} ms, attention {:.3f} ms\n", tokens, 1e3 * point.kda,
                 1e3 * point.attention);
    }
  }
  return points;
}

// The length at which the order changes, log-linearly interpolated between measured lengths; 0 if it never does.
double measured_crossing(const std::vector<Point>& points) {
  for (size_t i = 1; i < points.size(); ++i) {
    const double before = std::log(points[i - 1].attention / points[i - 1].kda),
                 after = std::log(points[i].attention / points[i].kda);
    if (before < 0 && after >= 0) {
      const double share = before / (before - after);
      return static_cast<double>(points[i - 1].tokens) * std::pow(2.0, share);
    }
  }
  return 0;
}

void write(const std::vector<Point>& points, const Setting& s, const ReproduceOptions& options) {
  CsvTable table{provenance(options.command_line, at::get_num_threads()),
                 {"operator", "tokens", "heads", "head_dim", "flops", "milliseconds"},
                 {}};
  const auto heads = static_cast<double>(s.heads), width = static_cast<double>(s.width);
  for (const Point& point : points) {
    const auto tokens = static_cast<double>(point.tokens);
    const auto row = [&](const char* name, double flops, double seconds) {
      table.rows.push_back({name, fmt::format("{}", point.tokens), fmt::format("{}", s.heads),
                            fmt::format("{}", s.width), fmt::format("{:.6g}", flops * heads),
                            fmt::format("{:.5g}", 1e3 * seconds)});
    };
    row("kda", kda_flops(tokens, width), point.kda);
    row("attention", attention_flops(tokens, width), point.attention);
  }
  write_file(options.out + "/complexity.csv", table.text());
  for (const char* y : {"flops", "milliseconds"}) {
    PlotOptions plot_options;
    plot_options.files = {options.out + "/complexity.csv"};
    plot_options.x = "tokens";
    plot_options.y = y;
    plot_options.group_by = "operator";
    plot_options.log_x = plot_options.log_y = true;
    plot_options.title = fmt::format("Forward pass, {} heads of {}", s.heads, s.width);
    plot_options.out = fmt::format("{}/{}.png", options.out, y);
    plot(plot_options);
  }
}

std::string conclusion(const std::vector<Point>& points, double width) {
  if (points.front().attention >= points.front().kda) {
    return fmt::format(
        "Attention takes longer than KDA from {} tokens on, the shortest measured length: it has the lower FLOP "
        "rate here.",
        points.front().tokens);
  }
  const double crossed = measured_crossing(points);
  if (crossed == 0) return "Attention's time does not exceed KDA's at these lengths.";
  return fmt::format(
      "Attention's time exceeds KDA's from about {:.0f} tokens on, {:.1f} times the length at which its "
      "operations do.",
      crossed, crossed / crossing(width));
}

std::vector<std::string> page_of(const std::vector<Point>& points, const Setting& s, const ReproduceOptions& options) {
  const auto width = static_cast<double>(s.width);
  const std::string claim =
      "Claim: KDA takes 126,976 operations per token and head (width 128, chunks of 64) at any length; attention "
      "needs more from 496 tokens on.";
  const std::string head =
      "| tokens | KDA us per token and head | attention us per token and head | attention / KDA, time | the same, "
      "operations |";
  std::vector<std::string> lines = {
      "# Complexity: equations 13 and 14",
      "",
      claim,
      "",
      "Command: " + markdown_code(options.command_line),
      "",
      fmt::format("Expected: {:.0f} operations per token at width {}, crossing at {:.0f} tokens. Measured on {}, {} "
                  "threads, {} heads:",
                  kda_flops(1, width), s.width, crossing(width), options.device, at::get_num_threads(), s.heads),
      "",
      head,
      "|---|---|---|---|---|"};
  for (const Point& point : points) {
    const auto tokens = static_cast<double>(point.tokens);
    const double each = 1e6 / tokens / static_cast<double>(s.heads);
    lines.push_back(fmt::format("| {} | {:.3f} | {:.3f} | {:.2f} | {:.2f} |", point.tokens, each * point.kda,
                                each * point.attention, point.attention / point.kda,
                                attention_flops(tokens, width) / kda_flops(tokens, width)));
  }
  lines.insert(lines.end(), {"", conclusion(points, width)});
  return lines;
}

void run(const ReproduceOptions& options) {
  const Setting setting = setting_of(options.scale);
  make_writable_folder(options.out);
  const std::vector<Point> points = measure(options, setting);
  write(points, setting, options);
  write_page(options, page_of(points, setting, options));
  fmt::print("complexity: {}/page.md\n", options.out);
}

}  // namespace

Reproduction complexity_reproduction() {
  return {"complexity", "KDA's operations per token do not grow; attention needs more from 496 tokens on", run};
}

}  // namespace klab
