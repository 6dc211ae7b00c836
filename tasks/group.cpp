// SPDX-License-Identifier: Apache-2.0
#include "tasks/group.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "core/base/error.h"

namespace klab {
namespace {

using Permutation = std::vector<int64_t>;

Group cyclic(int64_t order) {
  Group group;
  for (int64_t left = 0; left < order; ++left) {
    group.names.push_back(fmt::format("{}", left));
    for (int64_t right = 0; right < order; ++right) group.table.push_back((left + right) % order);
  }
  return group;
}

bool is_even(const Permutation& permutation) {
  int64_t inversions = 0;
  for (size_t i = 0; i < permutation.size(); ++i) {
    for (size_t j = 0; j < i; ++j) inversions += permutation[j] > permutation[i];
  }
  return inversions % 2 == 0;
}

// All permutations of `points` points, or only the even ones, in lexicographic order; the identity is the first.
std::vector<Permutation> permutations(size_t points, bool only_even) {
  Permutation current(points);
  std::iota(current.begin(), current.end(), 0);
  std::vector<Permutation> all;
  do {
    if (!only_even || is_even(current)) all.push_back(current);
  } while (std::next_permutation(current.begin(), current.end()));
  return all;
}

Group permutation_group(size_t points, bool only_even) {
  const std::vector<Permutation> elements = permutations(points, only_even);
  std::map<Permutation, int64_t> id_of;
  Group group;
  for (const Permutation& element : elements) {
    id_of[element] = group.order();
    std::string name;
    for (const int64_t image : element) name += fmt::format("{}", image + 1);
    group.names.push_back(name);
  }
  for (const Permutation& left : elements) {
    for (const Permutation& right : elements) {
      Permutation product;
      for (const int64_t image : left) product.push_back(right[static_cast<size_t>(image)]);
      group.table.push_back(id_of.at(product));
    }
  }
  return group;
}

}  // namespace

const std::vector<std::string>& group_names() {
  static const std::vector<std::string> names = {"parity", "z60", "s3", "s5", "a5"};
  return names;
}

Group make_group(const std::string& name) {
  if (name == "parity") return cyclic(2);
  if (name == "z60") return cyclic(60);
  if (name == "s3") return permutation_group(3, false);
  if (name == "s5") return permutation_group(5, false);
  if (name == "a5") return permutation_group(5, true);
  fail("unknown group '{}'", name);
}

}  // namespace klab
