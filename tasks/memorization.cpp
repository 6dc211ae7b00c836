// SPDX-License-Identifier: Apache-2.0
#include "tasks/memorization.h"

#include <fmt/format.h>

#include "core/base/error.h"

namespace klab {

void MemorizationOptions::visit(Fields& fields) {
  fields("table_seed", table_seed, {0, std::numeric_limits<int64_t>::max()},
         "seed of the random table from keys to values");
}

Memorization::Memorization(const TaskShape& shape, const MemorizationOptions& options) : shape_(shape) {
  require(shape.length >= 2, "task.length", fmt::format("{}", shape.length),
          "must be at least 2 for memorization: a key and <insert>");
  require(shape.vocab >= 4 && shape.vocab % 2 == 0, "task.vocab", fmt::format("{}", shape.vocab),
          "must be even and at least 4 for memorization: the first half are keys, the second values");
  Random random{static_cast<uint64_t>(options.table_seed)};
  value_of_ = random.distinct(half(), half());
  for (int64_t& value : value_of_) value += half();
}

Example Memorization::generate(Random& random) const {
  Example example;
  while (example.size() + 2 <= shape_.length) {
    const uint64_t key = random.below(value_of_.size());
    example.append(static_cast<int64_t>(key));
    example.append(insert(), value_of_[key], 1);
  }
  if (example.size() < shape_.length) example.append(pad());
  return example;
}

std::string Memorization::token_name(int64_t id) const {
  if (id < 0 || id > pad()) fail("memorization has no token {}: the ids are 0 to {}", id, pad());
  if (id == insert()) return "<insert>";
  if (id == pad()) return "<pad>";
  return id < half() ? fmt::format("k{}", id) : fmt::format("v{}", id - half());
}

TaskEntry memorization_task() {
  return task_entry<Memorization, MemorizationOptions>("memorization",
                                                       "memorise a fixed table of keys and values (MAD)");
}

}  // namespace klab
