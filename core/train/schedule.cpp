// SPDX-License-Identifier: Apache-2.0
#include "core/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace klab {
namespace {

constexpr double kHalvings = 10;

}  // namespace

void Schedule::add_to(Fields& fields) {
  fields.choice("schedule", schedule, {"constant", "cosine", "wsd"},
                "learning rate after the warm-up: constant, cosine decay to the end, or stable and then a short decay");
  fields("warmup_ratio", warmup_ratio, {0, 1}, "share of the steps for linear warm-up");
  fields.renamed("warmup", "warmup_ratio");
  fields("decay_ratio", decay_ratio, {0, 1}, "schedule wsd: share of the steps for the decay at the end");
  fields.choice("decay", decay, {"linear", "cosine", "sqrt", "halving"},
                "schedule wsd: the shape of the decay; sqrt: 1 - sqrt, halving: ten halvings");
  fields("final_lr", final_lr, {0, 1}, "learning rate at the end of a decay, as a share of the peak");
}

int64_t Schedule::warmup_steps(int64_t steps) const {
  return std::max<int64_t>(1, static_cast<int64_t>(std::floor(warmup_ratio * static_cast<double>(steps))));
}

int64_t Schedule::last_stable_step(int64_t steps) const {
  const int64_t decay_steps = std::llround(decay_ratio * static_cast<double>(steps));
  return steps - std::min(decay_steps, std::max<int64_t>(0, steps - warmup_steps(steps)));
}

double Schedule::decayed(double part, double peak) const {
  if (decay == "halving") return peak * std::max(final_lr, std::exp2(-kHalvings * part));
  const double above = decay == "linear"   ? peak * (1 - part)
                       : decay == "cosine" ? peak * 0.5 * (1 + std::cos(std::numbers::pi * part))
                                           : peak * (1 - std::sqrt(part));
  return peak * final_lr + (1 - final_lr) * above;
}

double Schedule::lr_at(int64_t step, int64_t steps, double peak) const {
  const int64_t warm = warmup_steps(steps);
  const auto s = static_cast<double>(step);
  if (step <= warm) return peak * s / static_cast<double>(warm);
  if (schedule == "constant") return peak;
  if (schedule == "wsd") {
    const int64_t stable = last_stable_step(steps);
    if (step <= stable) return peak;
    return decayed(static_cast<double>(step - stable) / static_cast<double>(steps - stable), peak);
  }
  const double rest = std::max(static_cast<double>(steps - warm), 1.0);
  const double above = peak * 0.5 * (1 + std::cos(std::numbers::pi * (s - static_cast<double>(warm)) / rest));
  return peak * final_lr + (1 - final_lr) * above;
}

}  // namespace klab
