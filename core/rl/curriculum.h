// SPDX-License-Identifier: Apache-2.0
// Chooses the variants of a task that prompts are of.
#pragma once

#include <string>
#include <vector>

#include "core/base/random.h"

namespace klab {

/// Draws variants in proportion to their weights, times a function of their success rates s (config key
/// rl.curriculum): `none`: 1, `prioritised`: 1 - s, `learnable`: s (1 - s); at least 0.02, so that every variant is
/// observed. A success rate is the exponential average of the shares of right answers, 0.5 before the first.
class Curriculum {
 public:
  Curriculum(std::vector<double> weights, std::string kind);

  size_t draw(Random& random) const;
  /// `share` of the answers to a prompt of a variant were right.
  void observe(size_t variant, double share);

  const std::vector<double>& success_rates() const { return success_; }
  /// For a resumed run. Throws Error for another number of variants.
  void restore(const std::vector<double>& success_rates);

 private:
  double share(size_t variant) const;

  std::vector<double> weights_, success_;
  std::string kind_;
};

}  // namespace klab
