// SPDX-License-Identifier: Apache-2.0
#include "tasks/slots.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace klab {

// Weights are integers in units of 2^-24, so that they are the same on every machine: pow() may differ in its last bit
// (2^-53) between math libraries, and rounding to much coarser units removes the difference, except for a value within
// that last bit of a rounding boundary. Everything after it is integer arithmetic. The weight of slot 1000 has a
// relative rounding error of 0.003 %.
PowerLawSlots::PowerLawSlots(int64_t slots, double a) {
  for (int64_t i = 1; i <= slots; ++i) {
    const auto weight = static_cast<uint64_t>(std::llround(std::pow(static_cast<double>(i), a - 1) * 0x1p24));
    weights_.push_back(std::max<uint64_t>(weight, 1));
  }
}

std::vector<int64_t> PowerLawSlots::draw(int64_t queries, Random& random) const {
  std::vector<uint64_t> weights = weights_;
  uint64_t total = std::accumulate(weights.begin(), weights.end(), uint64_t{0});
  std::vector<int64_t> query_of_slot(weights.size(), -1);
  for (int64_t query = 0; query < queries; ++query) {
    uint64_t rest = random.below(total);
    size_t slot = 0;
    while (rest >= weights[slot]) rest -= weights[slot++];
    query_of_slot[slot] = query;
    total -= weights[slot];
    weights[slot] = 0;
  }
  return query_of_slot;
}

int64_t draw_unmarked(const std::vector<bool>& marked, Random& random) {
  uint64_t id = 0;
  do {
    id = random.below(marked.size());
  } while (marked[id]);
  return static_cast<int64_t>(id);
}

}  // namespace klab
