// SPDX-License-Identifier: Apache-2.0
#include "experiments/figures/fig5/scaling_page.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

#include "core/base/text.h"

namespace klab {
namespace {

using Lines = std::vector<std::string>;

void append(Lines& lines, const Lines& more) { lines.insert(lines.end(), more.begin(), more.end()); }

// The laws of figure 5, C in PFLOP/s-days, and the ratio that the report gives with them.
std::string published_law(const std::string& architecture) {
  static const std::map<std::string, std::string> laws = {{"MLA", "2.3092 C^-0.0536"},
                                                          {"KDA hybrid", "2.2879 C^-0.0527"}};
  const auto found = laws.find(architecture);
  return found == laws.end() ? "-" : found->second;
}

std::string published_ratio(const Claim& claim) {
  return claim.better == "KDA hybrid" && claim.than == "MLA" ? "1.16" : "-";
}

std::string text_of(const Bootstrapped& number, int digits) {
  return fmt::format("{:.{}f} [{:.{}f}, {:.{}f}]", number.value, digits, number.interval.low, digits,
                     number.interval.high, digits);
}

double mean_of_runs(const std::vector<ScalingRun>& runs, double ScalingRun::*field) {
  std::vector<double> values;
  for (const ScalingRun& run : runs) values.push_back(run.*field);
  return mean_of(values);
}

std::string point_row(const ScalingSize& size) {
  std::string seeds = fmt::format("{}", size.runs.size());
  if (size.diverged > 0) seeds += fmt::format(", {} diverged", size.diverged);
  const std::string start =
      fmt::format("| {} | {} | {} | {} | {:.4g} |", size.architecture, size.size,
                  short_count(static_cast<double>(size.cost.parameters)),
                  short_count(static_cast<double>(size.cost.tokens)), size.cost.flops / kTeraflop);
  if (size.runs.empty()) return fmt::format("{} - | - | {} |", start, seeds);
  return fmt::format("{} {:.4f} | {:.4f} | {} |", start, mean_of_runs(size.runs, &ScalingRun::loss),
                     mean_of_runs(size.runs, &ScalingRun::excess), seeds);
}

constexpr const char* kPoints =
    "Compute C is that of training in TFLOPs: three times the FLOPs of the forward pass over all its sequences, with "
    "attention's and the head's. Parameters are the activated ones without embeddings. Loss on test data at the end "
    "of training, in nats per token, and what of it is above the entropy of the source: means over seeds.";

constexpr const char* kLaws =
    "The line is loss = factor C^exponent by least squares of the logarithms over all runs, as the report fits it. "
    "Beside it the form with an irreducible part, by the Huber loss of the logarithms from several starts (Hoffmann et "
    "al. 2022), without intervals. The report's C is in PFLOP/s-days.";

constexpr const char* kRatios =
    "How many times the compute of the first the second needs for the same loss, by the two lines, at the geometric "
    "mean of the losses that both have. The report's ratio is at the loss 2.1.";

constexpr const char* kIntervals =
    "Brackets are 95 % intervals of a bootstrap over the seeds of every size. They cover the variation between seeds "
    "only, not that between sizes, tasks or learning rates, and with few seeds they are too narrow. Fits in the "
    "picture are of the means over seeds; their ± is the 95 % interval of the slope by the scatter of the sizes.";

// The entropy of the source on the test data, which an irreducible part can be compared with.
Lines entropy_lines(const std::vector<ScalingSize>& sizes) {
  std::vector<double> entropies;
  for (const ScalingSize& size : sizes) {
    for (const ScalingRun& run : size.runs) entropies.push_back(run.loss - run.excess);
  }
  if (entropies.empty()) return {};
  return {"",
          fmt::format("The entropy of the source is {:.4f} nats per token on these test data.", mean_of(entropies))};
}

std::string law_row(const ArchitectureFit& fit) {
  const std::string start = fmt::format("| {} |", fit.architecture), published = published_law(fit.architecture);
  if (!fit.line) {
    return fmt::format("{} not fitted: runs of {} sizes, and {} are needed | | | | | {} |", start, fit.curve.size(),
                       kFewestSizes, published);
  }
  const std::string line = fmt::format("{} {:.4f} | {} |", start, fit.line->law.factor, text_of(fit.line->exponent, 4));
  if (!fit.saturating) return fmt::format("{} - | - | - | {} |", line, published);
  return fmt::format("{} {:.3f} | {:.4g} | {:.4f} | {} |", line, fit.saturating->irreducible, fit.saturating->factor,
                     fit.saturating->exponent, published);
}

std::string ratio_row(const ComputeAdvantage& one) {
  const std::string start = fmt::format("| {} | {} |", one.claim.better, one.claim.than);
  if (!one.found) return fmt::format("{} | not known: {} | {} |", start, one.why_not, published_ratio(one.claim));
  return fmt::format("{} {:.4f} | {} | {} |", start, one.found->loss, text_of(one.found->ratio, 3),
                     published_ratio(one.claim));
}

}  // namespace

std::vector<std::string> scaling_lines(const std::vector<ScalingSize>& sizes, const std::vector<ArchitectureFit>& fits,
                                       const std::vector<ComputeAdvantage>& advantages) {
  if (sizes.empty()) return {};
  Lines lines = {"", "## Scaling", "", kPoints, ""};
  append(lines, {"| architecture | size | parameters | tokens | C (TFLOPs) | test loss | above entropy | seeds |",
                 "|---|---|---|---|---|---|---|---|"});
  for (const ScalingSize& size : sizes) lines.push_back(point_row(size));
  append(lines, entropy_lines(sizes));
  append(lines, {"", kLaws, ""});
  append(lines, {"| architecture | factor | exponent | irreducible | factor | exponent | report |",
                 "|---|---|---|---|---|---|---|"});
  for (const ArchitectureFit& fit : fits) lines.push_back(law_row(fit));
  append(lines, {"", kRatios, "", "| architecture | against | at loss | ratio | report |", "|---|---|---|---|---|"});
  for (const ComputeAdvantage& one : advantages) lines.push_back(ratio_row(one));
  append(lines, {"", kIntervals, ""});
  return lines;
}

CsvTable points_table(const std::vector<ScalingSize>& sizes) {
  CsvTable table{
      {}, {"architecture", "size", "parameters", "tokens", "teraflops", "train.seed", "test_loss", "excess"}, {}};
  for (const ScalingSize& size : sizes) {
    for (const ScalingRun& run : size.runs) {
      table.rows.push_back({size.architecture, size.size, fmt::format("{}", size.cost.parameters),
                            fmt::format("{}", size.cost.tokens), fmt::format("{:.6g}", size.cost.flops / kTeraflop),
                            fmt::format("{}", run.seed), fmt::format("{:.6f}", run.loss),
                            fmt::format("{:.6f}", run.excess)});
    }
  }
  return table;
}

CsvTable fits_table(const std::vector<ArchitectureFit>& fits) {
  CsvTable table{{},
                 {"architecture", "sizes", "factor", "exponent", "exponent_low", "exponent_high", "irreducible",
                  "saturating_factor", "saturating_exponent"},
                 {}};
  const auto number = [](double value) { return fmt::format("{:.6g}", value); };
  for (const ArchitectureFit& fit : fits) {
    if (!fit.line) continue;
    const Bootstrapped& exponent = fit.line->exponent;
    std::vector<std::string> row{
        fit.architecture,       fmt::format("{}", fit.curve.size()), number(fit.line->law.factor),
        number(exponent.value), number(exponent.interval.low),       number(exponent.interval.high)};
    if (fit.saturating) {
      append(row,
             {number(fit.saturating->irreducible), number(fit.saturating->factor), number(fit.saturating->exponent)});
    }
    row.resize(table.columns.size());
    table.rows.push_back(row);
  }
  return table;
}

CsvTable ratios_table(const std::vector<ComputeAdvantage>& advantages) {
  CsvTable table{{}, {"architecture", "against", "loss", "ratio", "ratio_low", "ratio_high"}, {}};
  for (const auto& [claim, found, why_not] : advantages) {
    if (!found) continue;
    std::vector<std::string> row{claim.better, claim.than};
    for (const double value :
         {found->loss, found->ratio.value, found->ratio.interval.low, found->ratio.interval.high}) {
      row.push_back(fmt::format("{:.6g}", value));
    }
    table.rows.push_back(row);
  }
  return table;
}

}  // namespace klab
