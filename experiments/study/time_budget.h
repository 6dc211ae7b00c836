// SPDX-License-Identifier: Apache-2.0
// A time limit over the parts of one piece of work.
#pragma once

#include <algorithm>
#include <chrono>

namespace klab {

class TimeBudget {
 public:
  /// `hours` from now; 0: no limit.
  explicit TimeBudget(double hours) : hours_(hours) {}

  /// The hours left, more than 0 even when they are spent; 0: no limit.
  double left() const {
    const double used = std::chrono::duration<double>(Clock::now() - begin_).count() / 3600;
    return hours_ > 0 ? std::max(hours_ - used, 1e-6) : 0;
  }

 private:
  using Clock = std::chrono::steady_clock;

  double hours_;
  Clock::time_point begin_ = Clock::now();
};

}  // namespace klab
