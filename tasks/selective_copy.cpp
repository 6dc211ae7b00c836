// SPDX-License-Identifier: Apache-2.0
#include "tasks/selective_copy.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"

namespace klab {

void SelectiveCopyOptions::visit(Fields& fields) { fields("items", items, {1, 1 << 24}, "symbols to repeat"); }

SelectiveCopy::SelectiveCopy(const TaskShape& shape, const SelectiveCopyOptions& options)
    : shape_(shape), items_(options.items) {
  require(shape.length >= 4, "task.length", fmt::format("{}", shape.length),
          "must be at least 4 for selective_copy: a symbol, a blank, <copy>, the answer");
  const int64_t most = (shape.length - 2) / 2;
  require(
      items_ <= most, "task.selective_copy.items", fmt::format("{}", items_),
      fmt::format("must be between 1 and {}, the most that fit twice, with <copy> and a blank, into task.length = {}",
                  most, shape.length));
  require(shape.vocab >= 2, "task.vocab", fmt::format("{}", shape.vocab),
          "must be at least 2 for selective_copy: with one symbol every sequence is the same");
}

Example SelectiveCopy::generate(Random& random) const {
  Example example;
  const int64_t prefix = shape_.length - 1 - items_;
  std::vector<int64_t> positions = random.distinct(items_, prefix);
  std::sort(positions.begin(), positions.end());
  std::vector<int64_t> symbols;
  for (const int64_t position : positions) {
    while (example.size() < position) example.append(blank());
    symbols.push_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(shape_.vocab))));
    example.append(symbols.back());
  }
  while (example.size() < prefix) example.append(blank());
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
