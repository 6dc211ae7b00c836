// SPDX-License-Identifier: Apache-2.0
#include "tasks/compositional_mqar.h"

#include <fmt/format.h>

#include "core/base/error.h"

namespace klab {
namespace {

// Far above what fits in a sequence; its square does not overflow.
constexpr int64_t kLargestGrid = 1 << 12;

// The number of positions after all pairs. Throws UsageError when something does not fit.
int64_t checked_query_positions(const TaskShape& shape, const CompositionalMqarOptions& options) {
  const int64_t pairs = options.grid * options.grid;
  require(shape.length >= 6 * pairs, "task.length", fmt::format("{}", shape.length),
          fmt::format("must be at least {} for compositional_mqar: three tokens to store each of {} pairs and a slot "
                      "of three to query it",
                      6 * pairs, pairs));
  require(shape.vocab >= 3 * pairs, "task.vocab", fmt::format("{}", shape.vocab),
          fmt::format("must be at least 3 x grid^2 = {} for compositional_mqar: a third of the symbols each are first "
                      "keys, second keys and values",
                      3 * pairs));
  return shape.length - 3 * pairs;
}

}  // namespace

void CompositionalMqarOptions::visit(Fields& fields) {
  fields("grid", grid, {2, kLargestGrid}, "number of first and of second key symbols; grid x grid pairs are stored");
  fields("power_a", power_a, {0, 1}, "slot i holds a query with probability ~ i^(power_a - 1)");
}

CompositionalMqar::CompositionalMqar(const TaskShape& shape, const CompositionalMqarOptions& options)
    : shape_(shape), grid_(options.grid), slots_(checked_query_positions(shape, options) / 3, options.power_a) {}

std::vector<CompositionalMqar::Entry> CompositionalMqar::draw_entries(Random& random) const {
  const int64_t pairs = grid_ * grid_;
  const std::vector<int64_t> firsts = random.distinct(grid_, third());
  const std::vector<int64_t> seconds = random.distinct(grid_, third());
  const std::vector<int64_t> values = random.distinct(pairs, shape_.vocab - 2 * third());
  std::vector<Entry> entries;
  for (const int64_t cell : random.distinct(pairs, pairs)) {
    const int64_t stored = static_cast<int64_t>(entries.size());
    entries.push_back({firsts[static_cast<size_t>(cell / grid_)], third() + seconds[static_cast<size_t>(cell % grid_)],
                       2 * third() + values[static_cast<size_t>(cell)], 3 * stored + 2});
  }
  return entries;
}

Example CompositionalMqar::generate(Random& random) const {
  Example example;
  std::vector<bool> is_key(static_cast<size_t>(shape_.vocab), false);
  const std::vector<Entry> entries = draw_entries(random);
  for (const Entry& entry : entries) {
    example.append(entry.first);
    example.append(entry.second);
    example.append(entry.value);
    is_key[static_cast<size_t>(entry.first)] = is_key[static_cast<size_t>(entry.second)] = true;
  }
  const auto append_filler = [&] { example.append(draw_unmarked(is_key, random)); };
  for (const int64_t queried : slots_.draw(static_cast<int64_t>(entries.size()), random)) {
    if (queried >= 0) {
      const Entry& entry = entries[static_cast<size_t>(queried)];
      example.append(entry.first);
      example.append(entry.second, entry.value, example.size() - entry.position);
    } else {
      append_filler();
      append_filler();
    }
    append_filler();
  }
  while (example.size() < shape_.length) append_filler();
  return example;
}

std::string CompositionalMqar::token_name(int64_t id) const {
  if (id < 0 || id >= vocabulary()) {
    fail("compositional_mqar has no token {}: the ids are 0 to {}", id, vocabulary() - 1);
  }
  if (id < third()) return fmt::format("a{}", id);
  if (id < 2 * third()) return fmt::format("b{}", id - third());
  return fmt::format("v{}", id - 2 * third());
}

TaskEntry compositional_mqar_task() {
  return task_entry<CompositionalMqar, CompositionalMqarOptions>("compositional_mqar",
                                                                 "recall values stored under pairs of keys");
}

}  // namespace klab
