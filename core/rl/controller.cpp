// SPDX-License-Identifier: Apache-2.0
#include "core/rl/controller.h"

#include <algorithm>

namespace klab {
namespace {

constexpr double kLargestError = 0.2;
constexpr double kMostClipped = 0.05;
constexpr int64_t kQuietIterations = 5;

}  // namespace

void Controller::after_iteration(const PolicyChange& change, const RlConfig& config) {
  if (first_entropy < 0) first_entropy = change.entropy;
  if (config.kl_target > 0) {
    const double error = std::clamp(change.kl / config.kl_target - 1, -kLargestError, kLargestError);
    kl_weight *= std::max(0.0, 1 + error * static_cast<double>(config.answers()) / config.kl_horizon);
  }
  if (config.most_minibatches == 0) return;
  const bool far =
      change.kl > 2 * config.kl_target || change.entropy < first_entropy / 2 || change.clipped_share > kMostClipped;
  quiet = far ? 0 : quiet + 1;
  if (far) minibatches = std::max<int64_t>(1, minibatches / 2);
  if (quiet == kQuietIterations) {
    minibatches = std::min(2 * minibatches, config.most_minibatches);
    quiet = 0;
  }
}

}  // namespace klab
