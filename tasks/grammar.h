// SPDX-License-Identifier: Apache-2.0
// Random context-free grammars of bounded depth, and the exact probabilities of their sentences' tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/random.h"

namespace klab {

/// A sentence, and for each of its tokens the level of the smallest constituent that holds it and the token before it;
/// levels + 1 for the first token.
struct Sentence {
  std::vector<int64_t> tokens, levels;
};

/// Symbols of level 0 are tokens; each symbol of a level above expands into 2 or 3 symbols of the next lower level, by
/// one of its rules, drawn uniformly. The root is the only symbol of the highest level, every other level has
/// `symbols`.
class LayeredGrammar {
 public:
  using Rule = std::vector<size_t>;  // the symbols that a symbol expands into

  /// `rules` rules for each symbol: of 2 or of 3 symbols with equal probability, then drawn uniformly; no two symbols
  /// of a level share a rule. That needs symbols * rules <= most_rules(symbols).
  LayeredGrammar(int64_t levels, int64_t symbols, int64_t rules, Random random);

  /// Half of the different rules of a level, so that drawing different ones is quick.
  static int64_t most_rules(int64_t symbols) { return symbols * symbols * (symbols + 1) / 2; }

  // For one symbol and all spans [begin, end) of some tokens: the probability that it yields exactly the span's tokens,
  // and that its yield begins with them; both times scale() for each token.
  struct Spans {
    explicit Spans(size_t length) : width(length + 1), exact(width * width, 0.0), begins(width * width, 0.0) {}
    size_t at(size_t begin, size_t end) const { return begin * width + end; }

    size_t width;
    std::vector<double> exact, begins;
  };

  int64_t levels() const { return static_cast<int64_t>(rules_.size()); }
  /// The rules of a symbol of a level >= 1.
  const std::vector<Rule>& rules(int64_t level, size_t symbol) const {
    return rules_[static_cast<size_t>(level) - 1][symbol];
  }
  Sentence draw(Random& random) const;

  /// In nats, -log of the probability of each token given those before it, and then of the end of the sentence given
  /// all of them: a sum over all derivations, in time of the order of length^3. Infinity from the first token on that
  /// no sentence has there.
  std::vector<double> surprisal(const std::vector<int64_t>& tokens) const;

 private:
  void expand(int64_t level, size_t symbol, int64_t boundary, Sentence& sentence, Random& random) const;
  Spans spans_of_root(const std::vector<int64_t>& tokens) const;
  // Keeps the probabilities of long sentences in the range of numbers: it is about 1 / the probability of a token.
  double scale() const { return static_cast<double>(symbols_); }

  int64_t symbols_;
  std::vector<std::vector<std::vector<Rule>>> rules_;  // by level - 1 and symbol
};

}  // namespace klab
