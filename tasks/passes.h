// SPDX-License-Identifier: Apache-2.0
// Passes over finite data, in an order drawn from the seed anew for every pass.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <tuple>

#include "core/base/random.h"
#include "tasks/task.h"

namespace klab {

/// Keeps the last few passes in memory. Thread-safe.
template <class Pass>
class Passes {
 public:
  /// Pass `number` over a split: make(random) if it is not in memory, with randomness that depends on the arguments.
  template <class Make>
  std::shared_ptr<const Pass> at(int64_t seed, Split split, int64_t number, const Make& make) const {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<const Pass>& known = passes_[{seed, split, number}];
    if (known != nullptr) return known;
    Random random{static_cast<uint64_t>(seed), static_cast<uint64_t>(split), static_cast<uint64_t>(number),
                  kOrderStream};
    auto made = std::make_shared<const Pass>(make(random));
    known = made;
    while (passes_.size() > kKept)
      passes_.erase(passes_.begin()->second == made ? std::next(passes_.begin()) : passes_.begin());
    return made;
  }

 private:
  static constexpr size_t kKept = 8;  // of the splits, and two of each at the border between passes
  static constexpr uint64_t kOrderStream = 0x6f72646572;

  mutable std::mutex mutex_;
  mutable std::map<std::tuple<int64_t, Split, int64_t>, std::shared_ptr<const Pass>> passes_;
};

}  // namespace klab
