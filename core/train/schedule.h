// SPDX-License-Identifier: Apache-2.0
// Learning-rate schedules.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/config.h"

namespace klab {

/// The learning rate of step s = 1, 2, .., N with peak lr and floor f = `final_lr` (a share of the peak). All kinds
/// begin with a linear warm-up of W = max(1, floor(warmup_ratio N)) steps:
///     s <= W      lr s / W
/// and then are
///     constant    lr
///     cosine      lr (f + (1 - f) (1 + cos(pi (s - W) / (N - W))) / 2)
///     wsd         lr up to step N - D, and in the last D = min(round(decay_ratio N), N - W) steps, of which
///                 p = (s - (N - D)) / D is the part that is over, lr (f + (1 - f) g(p)) with `decay`
///                     linear     g = 1 - p
///                     cosine     g = (1 + cos(pi p)) / 2
///                     sqrt       g = 1 - sqrt(p)
///                 or
///                     halving    lr max(f, 2^(-10 p)): ten halvings
/// wsd is "warm-up, stable, decay" (Hu et al. 2024, MiniCPM; 1-sqrt: Haegele et al. 2024). Without room for both, the
/// warm-up is complete and the decay is shorter.
struct Schedule {
  std::string schedule = "cosine";
  double warmup_ratio = 0.05;
  double decay_ratio = 0.1;
  std::string decay = "linear";
  double final_lr = 0;

  /// Adds the keys to those of a config.
  void add_to(Fields& fields);

  double lr_at(int64_t step, int64_t steps, double peak) const;

  /// N - D of a run of N `steps` with schedule wsd.
  int64_t last_stable_step(int64_t steps) const;

 private:
  int64_t warmup_steps(int64_t steps) const;
  double decayed(double part, double peak) const;
};

}  // namespace klab
