// SPDX-License-Identifier: Apache-2.0
#include "tasks/forgetting_mqar.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"

namespace klab {
namespace {

// The number of positions after all pairs and updates. Throws UsageError when something does not fit.
int64_t checked_query_positions(const TaskShape& shape, const ForgettingMqarOptions& options) {
  require(shape.length >= 6 && shape.length % 2 == 0, "task.length", fmt::format("{}", shape.length),
          "must be even and at least 6 for forgetting_mqar: a pair, its update and a query in a slot of two tokens");
  require(options.pairs <= (shape.length - 2) / 4, "task.forgetting_mqar.pairs", fmt::format("{}", options.pairs),
          fmt::format("must be between 1 and {}, the most that fit with their queries and one update into "
                      "task.length = {}",
                      (shape.length - 2) / 4, shape.length));
  const int64_t most = std::min(options.pairs, (shape.length - 4 * options.pairs) / 2);
  require(options.updates <= most, "task.forgetting_mqar.updates", fmt::format("{}", options.updates),
          fmt::format("must be between 1 and {}: each of {} pairs at most once, and the most that fit into "
                      "task.length = {}",
                      most, options.pairs, shape.length));
  const int64_t symbols = std::max<int64_t>(2 * options.pairs, 4);
  require(shape.vocab >= symbols && shape.vocab % 2 == 0, "task.vocab", fmt::format("{}", shape.vocab),
          fmt::format("must be even and at least {} for forgetting_mqar: the first half are keys, the second values",
                      symbols));
  return shape.length - 2 * (options.pairs + options.updates);
}

}  // namespace

void ForgettingMqarOptions::visit(Fields& fields) {
  fields("pairs", pairs, {1, 1 << 24}, "keys with a value");
  fields("updates", updates, {1, 1 << 24}, "number of keys that get a second value");
  fields("power_a", power_a, {0, 1}, "slot i holds a query with probability ~ i^(power_a - 1)");
}

ForgettingMqar::ForgettingMqar(const TaskShape& shape, const ForgettingMqarOptions& options)
    : shape_(shape),
      pairs_(options.pairs),
      updates_(options.updates),
      slots_(checked_query_positions(shape, options) / 2, options.power_a) {}

Example ForgettingMqar::generate(Random& random) const {
  Example example;
  std::vector<Entry> entries = append_pairs(example, random);
  append_updates(example, entries, random);
  append_queries(example, entries, random);
  return example;
}

std::vector<ForgettingMqar::Entry> ForgettingMqar::append_pairs(Example& example, Random& random) const {
  const std::vector<int64_t> keys = random.distinct(pairs_, half());
  const std::vector<int64_t> values = random.distinct(pairs_, half());
  std::vector<Entry> entries;
  for (size_t i = 0; i < keys.size(); ++i) {
    example.append(keys[i]);
    entries.push_back({keys[i], half() + values[i], example.size()});
    example.append(entries.back().value);
  }
  return entries;
}

void ForgettingMqar::append_updates(Example& example, std::vector<Entry>& entries, Random& random) const {
  for (const int64_t updated : random.distinct(updates_, pairs_)) {
    Entry& entry = entries[static_cast<size_t>(updated)];
    // Uniform among the other values: skips the old one.
    int64_t value = half() + static_cast<int64_t>(random.below(static_cast<uint64_t>(half() - 1)));
    if (value >= entry.value) ++value;
    example.append(entry.key);
    entry.value = value;
    entry.position = example.size();
    example.append(value);
  }
}

void ForgettingMqar::append_queries(Example& example, const std::vector<Entry>& entries, Random& random) const {
  std::vector<bool> is_key(static_cast<size_t>(shape_.vocab), false);
  for (const Entry& entry : entries) is_key[static_cast<size_t>(entry.key)] = true;
  for (const int64_t queried : slots_.draw(pairs_, random)) {
    if (queried >= 0) {
      const Entry& entry = entries[static_cast<size_t>(queried)];
      example.append(entry.key, entry.value, example.size() - entry.position);
    } else {
      example.append(draw_unmarked(is_key, random));
    }
    example.append(draw_unmarked(is_key, random));
  }
}

std::string ForgettingMqar::token_name(int64_t id) const {
  if (id < 0 || id >= vocabulary()) fail("forgetting_mqar has no token {}: the ids are 0 to {}", id, vocabulary() - 1);
  return id < half() ? fmt::format("k{}", id) : fmt::format("v{}", id - half());
}

TaskEntry forgetting_mqar_task() {
  return task_entry<ForgettingMqar, ForgettingMqarOptions>("forgetting_mqar",
                                                           "recall the last value of keys, some of which are updated");
}

}  // namespace klab
