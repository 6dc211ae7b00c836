// SPDX-License-Identifier: Apache-2.0
#include "tasks/cycle_navigation.h"

#include <fmt/format.h>

#include "core/base/error.h"

namespace klab {

void CycleNavigationOptions::visit(Fields& fields) {
  fields("cycle", cycle, {2, 1 << 20}, "positions of the cycle");
  fields("min_length", min_length, {0, 1 << 24}, "least number of moves; 0: task.length");
  fields.choice("targets", targets, {"last", "every"}, "moves after which the position is a target");
}

CycleNavigation::CycleNavigation(const TaskShape& shape, const CycleNavigationOptions& options)
    : shape_(shape), cycle_(options.cycle), min_length_(options.min_length), every_(options.targets == "every") {
  require(shape.length >= 7, "task.length", fmt::format("{}", shape.length),
          "must be at least 7 for cycle_navigation: fewer than 1000 different sequences cannot be split into training "
          "and test");
  require_least_length("task.cycle_navigation.min_length", min_length_, shape.length);
}

Example CycleNavigation::generate(Random& random) const {
  Example example;
  const int64_t length = draw_length(min_length_, shape_.length, random);
  int64_t position = 0;
  for (int64_t moves = 1; moves <= length; ++moves) {
    const auto move = static_cast<int64_t>(random.below(kMoves));
    position = (position + move - 1 + cycle_) % cycle_;
    if (every_ || moves == length) {
      example.append(move, kMoves + position, moves);
    } else {
      example.append(move);
    }
  }
  append_padding(example, shape_.length, pad());
  return example;
}

std::string CycleNavigation::token_name(int64_t id) const {
  if (id < 0 || id > pad()) fail("cycle_navigation has no token {}: the ids are 0 to {}", id, pad());
  if (id == pad()) return "<pad>";
  return id < kMoves ? fmt::format("{}{}", id == 2 ? "+" : "", id - 1) : fmt::format("p{}", id - kMoves);
}

TaskEntry cycle_navigation_task() {
  return task_entry<CycleNavigation, CycleNavigationOptions>("cycle_navigation",
                                                             "follow moves on a cycle (formal languages)");
}

}  // namespace klab
