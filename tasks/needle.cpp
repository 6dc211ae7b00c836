#include "tasks/needle.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"

namespace klab {
namespace {

// Far above what a model can be trained on.
constexpr int64_t kMost = 1 << 24;
constexpr int64_t kMostValueTokens = 1 << 12;
// Below it tenths of the haystack mean nothing.
constexpr int64_t kLeastHay = 10;

}  // namespace

void NeedleOptions::visit(Fields& fields) {
  fields.choice("kind", kind, {"single", "multi_key", "multi_value", "multi_query"},
                "one needle; one of several; all values of one key; several keys");
  fields("needles", needles, {1, kMost}, "needles in the hay, but for single, which has one");
  fields("value_tokens", value_tokens, {1, kMostValueTokens}, "symbols of a value");
  fields("depth", depth, {-1, 100},
         "position of the needle that is asked for, in percent of the haystack; -1: anywhere");
  fields("noise_vocab", noise_vocab, {1, kMost}, "symbols that are only hay, on top of task.vocab");
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
          fmt::format("must be even and at least {} for needle: the first half are keys, of which {} occur in a "
                      "sequence, the second are for values",
                      symbols, keys));
  require(hay() >= kLeastHay, "task.length", fmt::format("{}", shape.length),
          fmt::format("must be at least {} for needle: {} tokens of needles, {} of queries and {} of hay",
                      shape.length - hay() + kLeastHay, needle_tokens(), query_tokens(), kLeastHay));
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
    hidden.hay_before = static_cast<int64_t>(random.below(static_cast<uint64_t>(hay() + 1)));
    needles.push_back(hidden);
  }
  return needles;
}

Example Needle::generate(Random& random) const {
  std::vector<Hidden> needles = draw_needles(random);
  // The one that `depth` places, and that is asked when only one is.
  Hidden& placed = needles[random.below(needles.size())];
  // Rounded up, so that a depth of 90 is in the last tenth.
  if (depth_ >= 0) placed.hay_before = (depth_ * hay() + 99) / 100;
  const Hidden chosen = placed;
  const auto by_position = [](const Hidden& a, const Hidden& b) { return a.hay_before < b.hay_before; };
  std::stable_sort(needles.begin(), needles.end(), by_position);

  Example example;
  append_haystack(example, needles, random);
  if (kind_ == Kind::multi_value) {
    append_query(example, needles);
  } else if (kind_ == Kind::multi_query) {
    for (const int64_t asked : random.distinct(needles_, needles_)) {
      append_query(example, {needles[static_cast<size_t>(asked)]});
    }
  } else {
    append_query(example, {chosen});
  }
  return example;
}

void Needle::append_haystack(Example& example, const std::vector<Hidden>& needles, Random& random) const {
  size_t next = 0;
  for (int64_t before = 0; before <= hay(); ++before) {
    for (; next < needles.size() && needles[next].hay_before == before; ++next) {
      example.append(needle());
      example.append(needles[next].key);
      for (const int64_t symbol : needles[next].value) example.append(symbol);
    }
    if (before == hay()) break;
    example.append(shape_.vocab + static_cast<int64_t>(random.below(static_cast<uint64_t>(noise_vocab_))));
  }
}

void Needle::append_query(Example& example, const std::vector<Hidden>& asked) const {
  example.append(query());
  int64_t input = asked[0].key;
  for (const Hidden& hidden : asked) {
    const int64_t tenth = std::min<int64_t>(9, 10 * hidden.hay_before / hay());
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
  return {"needle", "find what was said once, in a lot of hay (RULER)", AnyConfig(NeedleOptions()),
          [](const TaskShape& shape, const AnyConfig& options) {
            return std::make_unique<Needle>(shape, options.as<NeedleOptions>());
          }};
}

}  // namespace klab
