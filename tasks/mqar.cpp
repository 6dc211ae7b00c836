// SPDX-License-Identifier: Apache-2.0
#include "tasks/mqar.h"

#include <fmt/format.h>

#include "core/base/error.h"

namespace klab {
namespace {

void check_protocol(const TaskShape& shape, const MqarOptions& options) {
  require(shape.length >= 4, "task.length", fmt::format("{}", shape.length),
          "must be at least 4 for mqar: one pair and one query");
  require(options.protocol != "zoology" || shape.length % 2 == 0, "task.length", fmt::format("{}", shape.length),
          "must be even for the zoology protocol of mqar, which places queries in slots of two tokens");
}

// The number of pairs. Throws UsageError when they do not fit.
int64_t checked_pairs(const TaskShape& shape, const MqarOptions& options) {
  check_protocol(shape, options);
  const int64_t most = options.protocol == "zoology" ? shape.length / 4 : (shape.length - 2) / 2;
  require(
      options.pairs <= most, "task.mqar.pairs", fmt::format("{}", options.pairs),
      fmt::format("must be 0 (a quarter of the length) or between 1 and {}, the most that fit into task.length = {}",
                  most, shape.length));
  const int64_t pairs = options.pairs == 0 ? shape.length / 4 : options.pairs;
  require(shape.vocab >= 2 * pairs && shape.vocab % 2 == 0, "task.vocab", fmt::format("{}", shape.vocab),
          fmt::format("must be even and at least 2 x pairs = {} for mqar: the first half are keys, the second values",
                      2 * pairs));
  return pairs;
}

}  // namespace

void MqarOptions::visit(Fields& fields) {
  fields.choice("protocol", protocol, {"report", "zoology"},
                "report: queries fill the rest; zoology: every key is queried once, at a power-law distance");
  fields("pairs", pairs, {0, 1 << 24}, "key-value pairs; 0: a quarter of the length");
  fields("power_a", power_a, {0, 1}, "zoology: slot i holds a query with probability ~ i^(power_a - 1)");
}

Mqar::Mqar(const TaskShape& shape, const MqarOptions& options)
    : shape_(shape),
      zoology_(options.protocol == "zoology"),
      pairs_(checked_pairs(shape, options)),
      slots_(zoology_ ? (shape.length - 2 * pairs_) / 2 : 0, options.power_a) {}

Example Mqar::generate(Random& random) const {
  const Pairs pairs = draw_pairs(random);
  Example example;
  for (size_t i = 0; i < pairs.keys.size(); ++i) {
    example.append(pairs.keys[i]);
    example.append(pairs.values[i]);
  }
  if (zoology_) {
    append_zoology_queries(example, pairs, random);
  } else {
    append_report_queries(example, pairs, random);
  }
  return example;
}

Mqar::Pairs Mqar::draw_pairs(Random& random) const {
  Pairs pairs;
  pairs.keys = random.distinct(pairs_, half());
  pairs.values = random.distinct(pairs_, half());
  for (int64_t& value : pairs.values) value += half();
  return pairs;
}

void Mqar::append_query(Example& example, const Pairs& pairs, int64_t pair) const {
  const int64_t value_position = 2 * pair + 1;
  example.append(pairs.keys[static_cast<size_t>(pair)], pairs.values[static_cast<size_t>(pair)],
                 example.size() - value_position);
}

void Mqar::append_report_queries(Example& example, const Pairs& pairs, Random& random) const {
  example.append(separator());
  while (example.size() < shape_.length) {
    append_query(example, pairs, static_cast<int64_t>(random.below(static_cast<uint64_t>(pairs_))));
  }
}

void Mqar::append_zoology_queries(Example& example, const Pairs& pairs, Random& random) const {
  std::vector<bool> is_key(static_cast<size_t>(shape_.vocab), false);
  for (const int64_t key : pairs.keys) is_key[static_cast<size_t>(key)] = true;
  const auto append_filler = [&] { example.append(draw_unmarked(is_key, random)); };
  for (const int64_t pair : slots_.draw(pairs_, random)) {
    if (pair >= 0) {
      append_query(example, pairs, pair);
    } else {
      append_filler();
    }
    append_filler();
  }
}

std::string Mqar::token_name(int64_t id) const {
  if (id < 0 || id >= vocabulary()) fail("mqar has no token {}: the ids are 0 to {}", id, vocabulary() - 1);
  if (id == separator()) return "<sep>";
  return id < half() ? fmt::format("k{}", id) : fmt::format("v{}", id - half());
}

TaskEntry mqar_task() {
  return task_entry<Mqar, MqarOptions>("mqar", "recall the values of keys (multi-query associative recall)");
}

}  // namespace klab
