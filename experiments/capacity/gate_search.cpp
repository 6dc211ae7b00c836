// SPDX-License-Identifier: Apache-2.0
#include "experiments/capacity/gate_search.h"

#include <algorithm>

#include "experiments/capacity/recall.h"

namespace klab {
namespace {

constexpr int kMostRounds = 3;

bool are_half_lives(const GateFields& fields) {
  return fields.front() == &ConstantGates::half_life || fields.front() == &ConstantGates::half_life_last;
}

// `gates` first, then `gates` with each other value of the fields.
std::vector<ConstantGates> variations(const ConstantGates& gates, const GateFields& fields, int64_t key_dim) {
  std::vector<ConstantGates> all = {gates};
  for (const double value : gate_values(fields, key_dim)) {
    ConstantGates one = gates;
    for (double ConstantGates::*const field : fields) one.*field = value;
    if (!(one == gates)) all.push_back(one);
  }
  return all;
}

}  // namespace

std::vector<double> gate_values(const GateFields& fields, int64_t key_dim) {
  if (!are_half_lives(fields)) return {0.1, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2};
  std::vector<double> values = {std::numeric_limits<double>::infinity(), 1};
  for (const double share : {8.0, 4.0, 2.0, 1.0, 0.5, 0.25}) values.push_back(share * static_cast<double>(key_dim));
  return values;
}

ConstantGates best_gates(const UpdateRule& rule, const ConstantGates& start, const Pairs& pairs) {
  ConstantGates best = start;
  for (int round = 0; round < kMostRounds; ++round) {
    const ConstantGates before = best;
    for (const GateFields& fields : rule.searched) {
      const std::vector<ConstantGates> tried = variations(best, fields, pairs.keys.size(2));
      const std::vector<Recall> recalls = recall(written_states(rule, tried, pairs), pairs);
      best = tried[static_cast<size_t>(std::max_element(recalls.begin(), recalls.end()) - recalls.begin())];
    }
    if (best == before || rule.searched.size() == 1) break;
  }
  return best;
}

}  // namespace klab
