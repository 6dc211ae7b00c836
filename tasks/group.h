// SPDX-License-Identifier: Apache-2.0
// Finite groups as multiplication tables.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace klab {

struct Group {
  std::vector<std::string> names;  ///< names of the elements; element 0 is the identity
  std::vector<int64_t> table;      ///< [order, order], row-major: table[left, right] = left * right

  int64_t order() const { return static_cast<int64_t>(names.size()); }
  int64_t product(int64_t left, int64_t right) const { return table[static_cast<size_t>(left * order() + right)]; }
};

/// The names that make_group accepts.
const std::vector<std::string>& group_names();

/// parity (two elements, 0 and 1), z60 (addition modulo 60), s3 and s5 (all permutations), a5 (the even ones). A
/// permutation is named by the images of 1, 2, .. in order ("213" swaps 1 and 2), and a product applies the left
/// factor first, then the right one. Throws Error for any other name.
Group make_group(const std::string& name);

}  // namespace klab
