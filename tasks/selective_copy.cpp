// SPDX-License-Identifier: Apache-2.0
#include "tasks/selective_copy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace klab {
namespace {

// The whole part of an exponential variable with that mean. The probability that it is at least k is exp(-1/mean)^k.
int64_t draw_gap(double mean, Random& random) {
  const double longer = std::exp(-1 / mean);
  int64_t gap = 0;
  while (random.uniform() < longer) ++gap;
  return gap;
}

}  // namespace

void SelectiveCopyOptions::visit(Fields& fields) {
  fields("items", items, {1, 1 << 24}, "symbols to repeat");
  fields("mean_gap", mean_gap, {0, 1 << 24},
         "mean of exponential gaps before symbols, in tokens; 0: uniform positions");
}

SelectiveCopy::SelectiveCopy(const TaskShape& shape, const SelectiveCopyOptions& options)
    : shape_(shape), items_(options.items), mean_gap_(options.mean_gap) {
  require(shape.length >= 4, "task.length", fmt::format("{}", shape.length),
          "must be at least 4 for selective_copy: a symbol, a blank, <copy>, the answer");
  const int64_t most = (shape.length - 2) / 2;
  require(
      items_ <= most, "task.selective_copy.items", fmt::format("{}", items_),
      fmt::format("must be between 1 and {}, the most that fit twice, with <copy> and a blank, into task.length = {}",
                  most, shape.length));
  require(shape.vocab >= 2, "task.vocab", fmt::format("{}", shape.vocab),
          "must be at least 2 for selective_copy: with one symbol every sequence is the same");
  const double longest = static_cast<double>(prefix()) / static_cast<double>(items_) - 1;
  require(
      mean_gap_ <= longest, "task.selective_copy.mean_gap", fmt::format("{}", mean_gap_),
      fmt::format("must be at most {:.2f}: with that mean {} symbols and the gaps before them fill the {} positions "
                  "before <copy>",
                  longest, items_, prefix()));
}

std::vector<int64_t> SelectiveCopy::draw_positions(Random& random) const {
  std::vector<int64_t> positions;
  if (mean_gap_ == 0) {
    positions = random.distinct(items_, prefix());
    std::sort(positions.begin(), positions.end());
    return positions;
  }
  do {
    positions.clear();
    int64_t next = 0;
    for (int64_t i = 0; i < items_; ++i) {
      next += draw_gap(mean_gap_, random);
      positions.push_back(next++);
    }
  } while (positions.back() >= prefix());
  return positions;
}

Example SelectiveCopy::generate(Random& random) const {
  Example example;
  const std::vector<int64_t> positions = draw_positions(random);
  std::vector<int64_t> symbols;
  for (const int64_t position : positions) {
    while (example.size() < position) example.append(blank());
    symbols.push_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(shape_.vocab))));
    example.append(symbols.back());
  }
  while (example.size() < prefix()) example.append(blank());
  example.append(copy());
  for (size_t i = 0; i < symbols.size(); ++i) example.append(blank(), symbols[i], example.size() - positions[i]);
  return example;
}

std::string SelectiveCopy::token_name(int64_t id) const {
  if (id < 0 || id > copy()) fail("selective_copy has no token {}: the ids are 0 to {}", id, copy());
  if (id == blank()) return "_";
  if (id == copy()) return "<copy>";
  return fmt::format("x{}", id);
}

TaskEntry selective_copy_task() {
  return task_entry<SelectiveCopy, SelectiveCopyOptions>("selective_copy",
                                                         "repeat symbols that were spread among blanks (MAD)");
}

}  // namespace klab
