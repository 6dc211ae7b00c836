// SPDX-License-Identifier: Apache-2.0
#include "tasks/dyck.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/base/error.h"

namespace klab {
namespace {

// With fewer sequences than this all of them could be memorised, and the test split could be empty.
constexpr int64_t kFewestSequences = 1000;

// The smallest length with at least that many sequences. They grow with the length if there is more than one kind or
// the depth is more than one.
int64_t shortest(const DyckOptions& options) {
  std::vector<int64_t> ways(1, 1);  // of sequences by the number of open brackets
  int64_t length = 0;
  for (; std::accumulate(ways.begin(), ways.end(), int64_t{0}) < kFewestSequences; ++length) {
    std::vector<int64_t> longer(std::min(ways.size(), static_cast<size_t>(options.depth)) + 1, 0);
    for (size_t open = 0; open < ways.size(); ++open) {
      if (open + 1 < longer.size()) longer[open + 1] += options.kinds * ways[open];
      if (open > 0) longer[open - 1] += ways[open];
    }
    ways = std::move(longer);
  }
  return length;
}

}  // namespace

void DyckOptions::visit(Fields& fields) {
  fields("kinds", kinds, {1, 1 << 20}, "kinds of brackets");
  fields("depth", depth, {1, 1 << 20}, "the most open brackets");
  fields("open", open, {0.01, 0.99}, "probability of an opening bracket where a closing one may follow too");
}

Dyck::Dyck(const TaskShape& shape, const DyckOptions& options)
    : shape_(shape), kinds_(options.kinds), depth_(options.depth), open_(options.open) {
  require(kinds_ > 1 || depth_ > 1, "task.dyck.depth", fmt::format("{}", depth_),
          "must be at least 2 with task.dyck.kinds = 1: there is only one such sequence");
  const int64_t least = shortest(options);
  require(
      shape.length >= least, "task.length", fmt::format("{}", shape.length),
      fmt::format("must be at least {} for dyck with {} kinds and depth {}: fewer than {} different sequences cannot "
                  "be split into training and test",
                  least, kinds_, depth_, kFewestSequences));
}

bool Dyck::draw_opening(size_t opened, Random& random) const {
  if (opened == 0) return true;
  return static_cast<int64_t>(opened) < depth_ && random.uniform() < open_;
}

Example Dyck::generate(Random& random) const {
  Example example;
  std::vector<int64_t> open;  // kinds, the innermost last
  while (example.size() < shape_.length) {
    int64_t input = 0;
    if (draw_opening(open.size(), random)) {
      open.push_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(kinds_))));
      input = open.back();
    } else {
      input = kinds_ + open.back();
      open.pop_back();
    }
    example.append(input, open.empty() ? none() : kinds_ + open.back(), static_cast<int64_t>(open.size()));
  }
  return example;
}

std::string Dyck::token_name(int64_t id) const {
  if (id < 0 || id > none()) fail("dyck has no token {}: the ids are 0 to {}", id, none());
  if (id == none()) return "<none>";
  return id < kinds_ ? fmt::format("({}", id) : fmt::format("{})", id - kinds_);
}

TaskEntry dyck_task() {
  return task_entry<Dyck, DyckOptions>("dyck", "say which bracket is closed next (formal languages)");
}

}  // namespace klab
