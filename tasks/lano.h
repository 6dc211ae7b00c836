// SPDX-License-Identifier: Apache-2.0
// Lano: sentences of a random context-free grammar.
#pragma once

#include "tasks/grammar.h"
#include "tasks/task.h"

namespace klab {

struct LanoOptions : Configurable {
  int64_t levels = 4, symbols = 3, rules = 3, grammar_seed = 0;
  bool surprisal = false;

  void visit(Fields& fields) override;
};

/// "Hierarchical language structure" of the Canon suite (Allen-Zhu 2025, Physics of language models part 4.1, arXiv
/// 2512.17351; part 1, arXiv 2305.13673). Inputs: <bos> sentence <bos> sentence .., cut at task.length; the target at
/// every position is the next token, <bos> after a sentence. The sentences are of one grammar (tasks/grammar.h) of
/// `levels` levels with `symbols` symbols each, so that they have 2^levels to 3^levels tokens, which are the symbols 1
/// .. `symbols` of the lowest level. It depends on these options and on grammar_seed alone: training, validation and
/// test have the same one. Each symbol has `rules` rules, which no sequence shows. A short string of tokens fits many
/// of them, and only the whole sentence decides.
///
/// The published grammars have 3 symbols in each of 6 or 7 levels, and sentences of 100 to 1000 tokens. Simplified:
/// rules are drawn here, with the same number for every symbol. The published scores are the share of generated
/// sentences that a parser accepts, and the divergence of the model's distribution of the next token from the true one:
/// with `surprisal` the latter is known, and evaluations have the loss above it (excess). That takes time of the order
/// of the cubed length of each sentence.
///
/// The difficulty of a target is the level of the smallest constituent that holds it and the token before it; across
/// the border between sentences it is one more than `levels`. task.vocab has no effect.
class Lano : public GeneratedTask {
 public:
  Lano(const TaskShape& shape, const LanoOptions& options);

  int64_t vocabulary() const override { return bos() + 1; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "level"; }

  const LayeredGrammar& grammar() const { return grammar_; }

 private:
  int64_t bos() const { return symbols_; }
  // Appends a sentence and the <bos> after it as targets, and what precedes each as input, up to the length.
  void append_sentence(Example& example, const Sentence& sentence) const;

  TaskShape shape_;
  int64_t symbols_;
  bool surprisal_;
  LayeredGrammar grammar_;
};

}  // namespace klab
