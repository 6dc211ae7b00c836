// SPDX-License-Identifier: Apache-2.0
// State tracking: the running product of group elements.
#pragma once

#include "tasks/group.h"
#include "tasks/padding.h"
#include "tasks/task.h"

namespace klab {

struct StateTrackingOptions : Configurable {
  std::string group = "s5", targets = "every";
  int64_t min_length = 0;

  void visit(Fields& fields) override;
};

/// The word problem of a group (Liu et al. 2023, arXiv 2210.10749; Merrill et al. 2024, arXiv 2404.08819). Inputs
/// g1 g2 .. are elements drawn uniformly, with replacement; the target at every position is the product of all elements
/// up to and including it. parity and z60 are commutative; s3 is not, but solvable. a5 and s5 are not solvable, and
/// their word problem is complete for NC1: no model of constant depth (TC0) solves it at every length, unless TC0 =
/// NC1. a5 and z60 have the same number of elements. tasks/group.h defines the names of elements and the order in which
/// permutations are applied.
///
/// With `targets` last, only the last element has a target, and with a `min_length` the number of elements is uniform
/// between it and task.length, and <pad> fills the rest. With both, the group parity is the parity task of formal
/// languages with length generalisation (tasks/cycle_navigation.h).
///
/// The vocabulary is the group's elements, and <pad> with a `min_length`; task.vocab has no effect. Inputs and targets
/// use the same token per element.
class StateTracking : public GeneratedTask {
 public:
  StateTracking(const TaskShape& shape, const StateTrackingOptions& options);

  int64_t vocabulary() const override { return min_length_ > 0 ? pad() + 1 : group_.order(); }
  Example generate(Random& random) const override;
  std::vector<int64_t> split_key(const Example& example) const override { return without_padding(example, pad()); }
  std::string token_name(int64_t id) const override;
  /// The number of elements multiplied so far.
  std::string difficulty_name() const override { return "factors"; }

 private:
  int64_t pad() const { return group_.order(); }

  TaskShape shape_;
  Group group_;
  bool every_;
  int64_t min_length_;
};

}  // namespace klab
