// SPDX-License-Identifier: Apache-2.0
// The positions of queries in zoology's tasks: slots whose probability decreases by a power law.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/random.h"

namespace klab {

/// Slots 1, 2, ..; slot i is drawn with probability proportional to i^(a - 1), without replacement (Arora et al. 2023):
/// with a = 0.01 most queries are in early slots, with a = 1 they are uniform.
class PowerLawSlots {
 public:
  PowerLawSlots(int64_t slots, double a);

  /// For every slot the index of its query, in 0 .. queries - 1, or -1 for none; queries <= slots.
  std::vector<int64_t> draw(int64_t queries, Random& random) const;

 private:
  std::vector<uint64_t> weights_;
};

/// A filler between queries: uniform among the ids that are not marked. Rejection sampling: slow if more than half of
/// the ids are marked.
int64_t draw_unmarked(const std::vector<bool>& marked, Random& random);

}  // namespace klab
