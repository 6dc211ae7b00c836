// Needle in a haystack: find what was said once, somewhere in a lot of hay.
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

/// After the retrieval tasks of RULER (Hsieh et al. 2024, arXiv 2404.06654). Inputs: hay, which is symbols drawn from
/// a vocabulary of their own; in it needles `<needle> key value`; behind it queries `<query> key value`. A value is
/// `value_tokens` symbols long, drawn with replacement; a key is one symbol. The first symbol of the value is to be
/// predicted under the key, each further one under the one before it; they are fed. Keys are the first half of the
/// symbols, values are made of the second half.
///
/// - single: one needle, which is asked.
/// - multi_key: `needles` needles with different keys, one of which is asked.
/// - multi_value: `needles` needles with the same key; one query asks for all their values, in the order in which
///   they stand in the hay.
/// - multi_query: `needles` needles with different keys, all of which are asked, in random order.
///
/// There an answer is text, and several are right in any order; a label needs one, hence the orders here.
///
/// Needles stand anywhere: how many tokens of hay come before one is drawn uniformly, from none to all. With a `depth`
/// the asked needle has that share of the hay before it (in percent, rounded up to whole tokens); when several are
/// asked, one of them, drawn at random. The difficulty is the share of the hay before the asked needle in tenths, 0 to
/// 9, of which 9 includes the very end.
///
/// Only the amount of hay depends on task.length: vocabulary, needles and queries stay the same, so a model of one
/// length can be asked at any other.
class Needle : public Task {
 public:
  Needle(const TaskShape& shape, const NeedleOptions& options);

  int64_t vocabulary() const override { return query() + 1; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "depth"; }

 private:
  enum class Kind { single, multi_key, multi_value, multi_query };

  // One needle, and how many tokens of hay come before it.
  struct Hidden {
    int64_t key;
    std::vector<int64_t> value;
    int64_t hay_before;
  };

  static Kind kind_of(const std::string& name);

  int64_t half() const { return shape_.vocab / 2; }
  int64_t needle() const { return shape_.vocab + noise_vocab_; }
  int64_t query() const { return needle() + 1; }
  int64_t needle_tokens() const { return needles_ * (2 + value_tokens_); }
  int64_t query_tokens() const;
  int64_t hay() const { return shape_.length - needle_tokens() - query_tokens(); }

  std::vector<Hidden> draw_needles(Random& random) const;
  void append_haystack(Example& example, const std::vector<Hidden>& needles, Random& random) const;
  // Asks for the values of all `asked`, which have the same key.
  void append_query(Example& example, const std::vector<Hidden>& asked) const;

  TaskShape shape_;
  Kind kind_;
  int64_t needles_, value_tokens_, depth_, noise_vocab_;
};

}  // namespace klab
