// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/halving.h"

#include "core/train/status.h"

namespace klab {

Promotion judge(const Plan& plan, const std::vector<Reports>& reports, size_t run, size_t rung) {
  const Halving& halving = *plan.halving;
  const double own = reports[run].values.at(rung);
  int64_t count = 1, ahead = 0;
  for (size_t i = 0; i < run; ++i) {
    if (plan.runs[i].group != plan.runs[run].group) continue;
    if (reports[i].values.size() <= rung) {
      if (!reports[i].over) return Promotion::wait;
      continue;
    }
    ++count;
    const double other = reports[i].values[rung];
    ahead += better(halving.metric, other, own);
  }
  const int64_t survivors = (count + halving.factor - 1) / halving.factor;
  return ahead < survivors ? Promotion::go_on : Promotion::stop;
}

}  // namespace klab
