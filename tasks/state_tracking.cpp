// SPDX-License-Identifier: Apache-2.0
#include "tasks/state_tracking.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/text.h"

namespace klab {
namespace {

Group checked_group(const std::string& name) {
  const std::vector<std::string>& known = group_names();
  require(std::find(known.begin(), known.end(), name) != known.end(), "task.state_tracking.group", name,
          "must be one of: " + join(known));
  return make_group(name);
}

// With fewer sequences than this all of them could be memorised, and the test split could be empty.
constexpr int64_t kFewestSequences = 1000;

// The smallest length with at least that many sequences.
int64_t shortest(int64_t order) {
  int64_t length = 0;
  for (int64_t sequences = 1; sequences < kFewestSequences; sequences *= order) ++length;
  return length;
}

}  // namespace

void StateTrackingOptions::visit(Fields& fields) {
  fields.choice("group", group, group_names(), "group whose elements are multiplied; its elements are the vocabulary");
  fields.choice("targets", targets, {"every", "last"}, "elements whose product so far is a target");
  fields("min_length", min_length, {0, 1 << 24}, "least number of elements of a sequence; 0: task.length");
}

StateTracking::StateTracking(const TaskShape& shape, const StateTrackingOptions& options)
    : shape_(shape),
      group_(checked_group(options.group)),
      every_(options.targets == "every"),
      min_length_(options.min_length) {
  require_least_length("task.state_tracking.min_length", min_length_, shape.length);
  const int64_t least = shortest(group_.order());
  require(shape.length >= least, "task.length", fmt::format("{}", shape.length),
          fmt::format("must be at least {} for state_tracking with the group {}: it has {} elements, and fewer than {} "
                      "different sequences cannot be split into training and test",
                      least, options.group, group_.order(), kFewestSequences));
}

Example StateTracking::generate(Random& random) const {
  Example example;
  const int64_t length = draw_length(min_length_, shape_.length, random);
  int64_t product = 0;
  for (int64_t factors = 1; factors <= length; ++factors) {
    const auto factor = static_cast<int64_t>(random.below(static_cast<uint64_t>(group_.order())));
    product = group_.product(product, factor);
    if (every_ || factors == length) {
      example.append(factor, product, factors);
    } else {
      example.append(factor);
    }
  }
  append_padding(example, shape_.length, pad());
  return example;
}

std::string StateTracking::token_name(int64_t id) const {
  if (id < 0 || id >= vocabulary()) fail("state_tracking has no token {}: the ids are 0 to {}", id, vocabulary() - 1);
  if (id == pad()) return "<pad>";
  return group_.names[static_cast<size_t>(id)];
}

TaskEntry state_tracking_task() {
  return task_entry<StateTracking, StateTrackingOptions>("state_tracking", "multiply the elements of a group");
}

}  // namespace klab
