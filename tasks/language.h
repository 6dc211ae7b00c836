// SPDX-License-Identifier: Apache-2.0
// Language: a synthetic source of text whose entropy is known.
#pragma once

#include "tasks/task.h"

namespace klab {

struct LanguageOptions : Configurable {
  double zipf = 1.2, order_two = 0.5, recur = 0.3, recur_power = 1.0, open = 0.05, close = 0.06, span = 0.01,
         span_end = 0.2;
  int64_t brackets = 2, depth = 4, span_most = 12, source_seed = 0;

  void visit(Fields& fields) override;
  void validate() const override;
};

/// Predict the next token of a source that mixes what language models need. What precedes a token determines its
/// distribution exactly, so the surprisal of every target is known, and a perfect model's loss is its mean.
///
/// Inputs <start> t1 t2 ..; the target at each position is the next token. task.vocab words, and:
///   words      With probability `recur`, if the last word occurred before: the word that followed one of its earlier
///              places, drawn by (gap in words)^-recur_power. Otherwise from a Zipf distribution over words,
///              (rank)^-zipf, in an order of the words given by the last word, or, with probability order_two, by the
///              last two.
///   brackets   An opening bracket of one of `brackets` kinds with probability `open` unless `depth` are open; the
///              closing one of the innermost with probability `close` if there is one.
///   spans      <push> with probability `span`; then words, uniform; after each <pop> with probability span_end, and
///   after
///              span_most words always; then the same words in reverse.
/// The orders of words depend on source_seed: training, validation and test have the same source, and so have variants
/// with other shares, for data that are shifted.
///
/// The difficulty of a target is the gap to the last place where the same token followed the same token, 0 if none.
class Language : public GeneratedTask {
 public:
  Language(const TaskShape& shape, const LanguageOptions& options);

  int64_t vocabulary() const override { return start() + 1; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }

 private:
  friend class LanguageSource;

  int64_t opening(int64_t kind) const { return shape_.vocab + kind; }
  int64_t closing(int64_t kind) const { return shape_.vocab + options_.brackets + kind; }
  int64_t push() const { return shape_.vocab + 2 * options_.brackets; }
  int64_t pop() const { return push() + 1; }
  int64_t start() const { return push() + 2; }

  TaskShape shape_;
  LanguageOptions options_;
  std::vector<uint64_t> zipf_;    // cumulative weights of ranks
  std::vector<uint64_t> by_gap_;  // weight of a gap in words, from gap 1
};

}  // namespace klab
