// State tracking: multiply the elements of a group, one by one.
#pragma once

#include "tasks/group.h"
#include "tasks/task.h"

namespace klab {

struct StateTrackingOptions : Configurable {
  std::string group = "s5";

  void visit(Fields& fields) override;
};

/// The word problem of a group (Liu et al. 2023, arXiv 2210.10749; Merrill et al. 2024, arXiv 2404.08819). Inputs
/// g1 g2 .. are elements drawn uniformly, with replacement; at every position the product g1 g2 .. up to there is to
/// be predicted. parity and z60 are commutative; s3 is not, but solvable. a5 and s5 are not solvable, and their word
/// problem is complete for NC1: no model of constant depth (TC0) does it at every length, unless the two are the same.
/// a5 and z60 have equally many elements. tasks/group.h says how elements are named and in which order permutations
/// are done.
///
/// The vocabulary is the group's elements: task.vocab has no effect here. A product is answered with the token of the
/// element that it is.
class StateTracking : public Task {
 public:
  StateTracking(const TaskShape& shape, const StateTrackingOptions& options);

  int64_t vocabulary() const override { return group_.order(); }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  /// Elements multiplied so far.
  std::string difficulty_name() const override { return "factors"; }

 private:
  TaskShape shape_;
  Group group_;
};

}  // namespace klab
