// SPDX-License-Identifier: Apache-2.0
#include "experiments/figures/fig5/scaling_runs.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/table.h"
#include "core/model/accounting.h"
#include "core/model/layers.h"
#include "experiments/run/run.h"

namespace klab {

TrainingCost training_cost(const RunConfig& config) {
  const ParameterPlace nowhere(torch::kMeta, torch::kFloat);  // no parameters are allocated
  const Accounting sum = account(make_model(config), config.task.length);
  const int64_t sequences = config.train.batch * config.train.steps;
  return {sum.activated_parameters_without_embeddings, sequences * config.task.length,
          3 * sum.prefill_flops * static_cast<double>(sequences)};
}

std::vector<ScalingSize> scaling_sizes(const std::vector<StudyCell>& cells) {
  std::vector<ScalingSize> sizes;
  for (const StudyCell& cell : cells) {
    for (const auto& [architecture, runs] : cell.runs) {
      ScalingSize& size = sizes.emplace_back();
      size.architecture = architecture;
      size.size = short_text(cell.values);
      size.cost = training_cost(read_run_config({runs.front()->folder}));
      for (const RunSummary* run : runs) {
        size.diverged += run->record.state == RunState::diverged;
        if (const auto losses = language_losses(*run)) {
          size.runs.push_back({run->field("train.seed").get<int64_t>(), losses->loss, losses->excess});
        }
      }
    }
  }
  std::vector<std::string> order;
  for (const ScalingSize& size : sizes) order.push_back(size.architecture);
  std::stable_sort(sizes.begin(), sizes.end(), [&](const ScalingSize& a, const ScalingSize& b) {
    const auto place = [&](const ScalingSize& size) {
      return std::find(order.begin(), order.end(), size.architecture);
    };
    return place(a) < place(b);
  });
  return sizes;
}

std::vector<ArchitectureFit> fit_architectures(const std::vector<ScalingSize>& sizes) {
  std::vector<ArchitectureFit> fits;
  for (const ScalingSize& size : sizes) {
    if (fits.empty() || fits.back().architecture != size.architecture) fits.push_back({size.architecture, {}, {}, {}});
    if (size.runs.empty()) continue;
    SizeRuns& runs = fits.back().curve.emplace_back();
    for (const ScalingRun& run : size.runs) runs.emplace_back(size.cost.flops / kTeraflop, run.loss);
  }
  for (ArchitectureFit& fit : fits) {
    if (fit.curve.size() < kFewestSizes) continue;
    fit.line = fit_scaling(fit.curve);
    fit.saturating = fit_saturating_law(points_of(fit.curve));
  }
  return fits;
}

ComputeAdvantage compute_advantage(const std::vector<ArchitectureFit>& fits, const Claim& claim) {
  ComputeAdvantage advantage{claim, {}, {}};
  std::vector<const ArchitectureFit*> pair;
  for (const std::string& name : {claim.than, claim.better}) {
    const auto fit = std::find_if(fits.begin(), fits.end(), [&](const auto& one) { return one.architecture == name; });
    if (fit == fits.end() || !fit->line) {
      advantage.why_not = fmt::format("{}: runs of fewer than {} sizes", name, kFewestSizes);
      return advantage;
    }
    if (!fit->line->decreases()) {
      advantage.why_not = fmt::format("{}: the interval of the exponent contains values that are not negative", name);
      return advantage;
    }
    pair.push_back(&*fit);
  }
  advantage.found = compare_scaling(pair[0]->curve, pair[1]->curve);
  if (!advantage.found) advantage.why_not = "no loss that both reach";
  return advantage;
}

}  // namespace klab
