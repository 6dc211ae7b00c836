// Where queries stand in the tasks of zoology: slots whose probability falls by a power law.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/random.h"

namespace klab {

/// Slots 1, 2, .. of which slot i is taken with probability proportional to i^(a - 1), without replacement
/// (Arora et al. 2023): with a = 0.01 most queries come soon, with a = 1 they come anywhere.
class PowerLawSlots {
 public:
  PowerLawSlots(int64_t slots, double a);

  /// For every slot which of the queries 0 .. queries - 1 stands there, or -1; queries <= slots.
  std::vector<int64_t> draw(int64_t queries, Random& random) const;

 private:
  std::vector<uint64_t> weights_;
};

/// A filler between queries: uniform among the ids that are not marked. At least half of them must not be, or
/// drawing takes long.
int64_t draw_unmarked(const std::vector<bool>& marked, Random& random);

}  // namespace klab
