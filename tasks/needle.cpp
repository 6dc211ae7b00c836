// SPDX-License-Identifier: Apache-2.0
#include "tasks/needle.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"

namespace klab {
namespace {

// Limits far above any trainable size.
constexpr int64_t kMost = 1 << 24;
constexpr int64_t kMostValueTokens = 1 << 12;
// The difficulty is in tenths of the haystack.
constexpr int64_t kLeastNoise = 10;

}  // namespace

void NeedleOptions::visit(Fields& fields) {
  fields.choice("kind", kind, {"single", "multi_key", "multi_value", "multi_query"},
                "one needle; one queried needle of several; all values of one key; several queried keys");
  fields("needles", needles, {1, kMost}, "number of needles; ignored by single, which has one");
  fields("value_tokens", value_tokens, {1, kMostValueTokens}, "symbols of a value");
  fields("depth", depth, {-1, 100}, "position of the queried needle, in percent of the haystack; -1: anywhere");
  fields("noise_vocab", noise_vocab, {1, kMost}, "noise tokens of the haystack, in addition to task.vocab");
}

Needle::Kind Needle::kind_of(const std::string& name) {
  if (name == "single") return Kind::single;
  if (name == "multi_key") return Kind::multi_key;
  return name == "multi_value" ? Kind::multi_value : Kind::multi_query;
}

Needle::Needle(const TaskShape& shape, const NeedleOptions& options)
    : shape_(shape),
      kind_(kind_of(options.kind)),
      needles_(kind_ == Kind::single ? 1 : options.needles),
      value_tokens_(options.value_tokens),
      depth_(options.depth),
      noise_vocab_(options.noise_vocab) {
  const int64_t keys = kind_ == Kind::multi_value ? 1 : needles_;
  const int64_t symbols = std::max<int64_t>(4, 2 * keys);
  require(shape.vocab >= symbols && shape.vocab % 2 == 0, "task.vocab", fmt::format("{}", shape.vocab),
          fmt::format("must be even and at least {} for needle: the first half are keys, {} of which occur in a "
                      "sequence, the second half values",
                      symbols, keys));
  require(noise_tokens() >= kLeastNoise, "task.length", fmt::format("{}", shape.length),
          fmt::format("must be at least {} for needle: {} tokens of needles, {} of queries and {} of noise",
                      shape.length - noise_tokens() + kLeastNoise, needle_tokens(), query_tokens(), kLeastNoise));
}

int64_t Needle::query_tokens() const {
  if (kind_ == Kind::multi_value) return 2 + needles_ * value_tokens_;
  return (kind_ == Kind::multi_query ? needles_ : 1) * (2 + value_tokens_);
}

std::vector<Needle::Hidden> Needle::draw_needles(Random& random) const {
  const bool one_key = kind_ == Kind::multi_value;
  const std::vector<int64_t> keys = random.distinct(one_key ? 1 : needles_, half());
  std::vector<Hidden> needles;
  for (int64_t i = 0; i < needles_; ++i) {
    Hidden hidden{keys[one_key ? 0 : static_cast<size_t>(i)], {}, 0};
    for (int64_t symbol = 0; symbol < value_tokens_; ++symbol) {
      hidden.value.push_back(half() + static_cast<int64_t>(random.below(static_cast<uint64_t>(half()))));
    }
    hidden.noise_before = static_cast<int64_t>(random.below(static_cast<uint64_t>(noise_tokens() + 1)));
    needles.push_back(hidden);
  }
  return needles;
}

Example Needle::generate(Random& random) const {
  std::vector<Hidden> needles = draw_needles(random);
  // The needle that `depth` applies to, and the queried one if only one is queried.
  Hidden& placed = needles[random.below(needles.size())];
  // Rounded up, so that a depth of 90 is in the last tenth.
  if (depth_ >= 0) placed.noise_before = (depth_ * noise_tokens() + 99) / 100;
  const Hidden chosen = placed;
  const auto by_position = [](const Hidden& a, const Hidden& b) { return a.noise_before < b.noise_before; };
  std::stable_sort(needles.begin(), needles.end(), by_position);

  Example example;
  append_haystack(example, needles, random);
  if (kind_ == Kind::multi_value) {
    append_query(example, needles);
  } else if (kind_ == Kind::multi_query) {
    for (const int64_t queried : random.distinct(needles_, needles_)) {
      append_query(example, {needles[static_cast<size_t>(queried)]});
    }
  } else {
    append_query(example, {chosen});
  }
  return example;
}

void Needle::append_haystack(Example& example, const std::vector<Hidden>& needles, Random& random) const {
  size_t next = 0;
  for (int64_t before = 0; before <= noise_tokens(); ++before) {
    for (; next < needles.size() && needles[next].noise_before == before; ++next) {
      example.append(needle());
      example.append(needles[next].key);
      for (const int64_t symbol : needles[next].value) example.append(symbol);
    }
    if (before == noise_tokens()) break;
    example.append(shape_.vocab + static_cast<int64_t>(random.below(static_cast<uint64_t>(noise_vocab_))));
  }
}

void Needle::append_query(Example& example, const std::vector<Hidden>& queried) const {
  example.append(query());
  int64_t input = queried[0].key;
  for (const Hidden& hidden : queried) {
    const int64_t tenth = std::min<int64_t>(9, 10 * hidden.noise_before / noise_tokens());
    for (const int64_t symbol : hidden.value) {
      example.append(input, symbol, tenth);
      input = symbol;
    }
  }
  example.append(input);
}

std::string Needle::token_name(int64_t id) const {
  if (id < 0 || id > query()) fail("needle has no token {}: the ids are 0 to {}", id, query());
  if (id == needle()) return "<needle>";
  if (id == query()) return "<query>";
  if (id >= shape_.vocab) return fmt::format("n{}", id - shape_.vocab);
  return id < half() ? fmt::format("k{}", id) : fmt::format("v{}", id - half());
}

TaskEntry needle_task() {
  return task_entry<Needle, NeedleOptions>("needle", "recall a key-value pair hidden in noise (RULER)");
}

}  // namespace klab
