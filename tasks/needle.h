// SPDX-License-Identifier: Apache-2.0
// Needle in a haystack: recall key-value pairs that are hidden in a long sequence of noise tokens.
#pragma once

#include "tasks/task.h"

namespace klab {

struct NeedleOptions : Configurable {
  std::string kind = "single";
  int64_t needles = 4;
  int64_t value_tokens = 1;
  int64_t depth = -1;
  int64_t noise_vocab = 16;

  void visit(Fields& fields) override;
};

/// After the retrieval tasks of RULER (Hsieh et al. 2024, arXiv 2404.06654). Inputs: a haystack of
/// noise tokens, drawn from a separate vocabulary; in it needles `<needle> key value`; after it queries
/// `<query> key value`. A value has `value_tokens` symbols, drawn with replacement; a key is one symbol. The first
/// symbol of the value is the target at the key, each further one at the symbol before it; the value is also an input.
/// Keys are the first half of the symbols, values are made of the second half.
///
/// - single: one needle, which is queried.
/// - multi_key: `needles` needles with different keys, one of which is queried.
/// - multi_value: `needles` needles with the same key; one query asks for all their values, in haystack order.
/// - multi_query: `needles` needles with different keys, all of which are queried, in random order.
///
/// In RULER an answer is text, and several values are accepted in any order. Labels need a fixed order, hence the
/// orders above.
///
/// The number of noise tokens before a needle is uniform, from none to all. With a `depth`, the queried needle has that
/// percentage of the noise tokens before it, rounded up to whole tokens; if several needles are queried, this applies
/// to one of them, drawn at random. The difficulty is the share of the haystack before the queried needle in tenths, 0
/// to 9, where 9 includes the very end.
///
/// Only the number of noise tokens depends on task.length: vocabulary, needles and queries stay the same, so a model
/// trained at one length can be evaluated at any other.
class Needle : public GeneratedTask {
 public:
  Needle(const TaskShape& shape, const NeedleOptions& options);

  int64_t vocabulary() const override { return query() + 1; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "depth"; }

 private:
  enum class Kind { single, multi_key, multi_value, multi_query };

  // One needle, and the number of noise tokens before it.
  struct Hidden {
    int64_t key;
    std::vector<int64_t> value;
    int64_t noise_before;
  };

  static Kind kind_of(const std::string& name);

  int64_t half() const { return shape_.vocab / 2; }
  int64_t needle() const { return shape_.vocab + noise_vocab_; }
  int64_t query() const { return needle() + 1; }
  int64_t needle_tokens() const { return needles_ * (2 + value_tokens_); }
  int64_t query_tokens() const;
  int64_t noise_tokens() const { return shape_.length - needle_tokens() - query_tokens(); }

  std::vector<Hidden> draw_needles(Random& random) const;
  void append_haystack(Example& example, const std::vector<Hidden>& needles, Random& random) const;
  // Queries the values of all needles in `queried`, which have the same key.
  void append_query(Example& example, const std::vector<Hidden>& queried) const;

  TaskShape shape_;
  Kind kind_;
  int64_t needles_, value_tokens_, depth_, noise_vocab_;
};

}  // namespace klab
