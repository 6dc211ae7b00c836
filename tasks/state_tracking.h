// SPDX-License-Identifier: Apache-2.0
// State tracking: the running product of group elements.
#pragma once

#include "tasks/group.h"
#include "tasks/task.h"

namespace klab {

struct StateTrackingOptions : Configurable {
  std::string group = "s5";

  void visit(Fields& fields) override;
};

/// The word problem of a group (Liu et al. 2023, arXiv 2210.10749; Merrill et al. 2024, arXiv 2404.08819). Inputs
/// g1 g2 .. are elements drawn uniformly, with replacement; the target at every position is the product of all elements
/// up to and including it. parity and z60 are commutative; s3 is not, but solvable. a5 and s5 are not solvable, and
/// their word problem is complete for NC1: no model of constant depth (TC0) solves it at every length, unless TC0 =
/// NC1. a5 and z60 have the same number of elements. tasks/group.h defines the names of elements and the order in which
/// permutations are applied.
///
/// The vocabulary is the group's elements; task.vocab has no effect. Inputs and targets use the same token per element.
class StateTracking : public GeneratedTask {
 public:
  StateTracking(const TaskShape& shape, const StateTrackingOptions& options);

  int64_t vocabulary() const override { return group_.order(); }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  /// The number of elements multiplied so far.
  std::string difficulty_name() const override { return "factors"; }

 private:
  TaskShape shape_;
  Group group_;
};

}  // namespace klab
