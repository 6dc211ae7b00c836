// SPDX-License-Identifier: Apache-2.0
// Grammars: probabilities and levels against an enumeration of all derivations.
#include "tasks/grammar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <tuple>

namespace klab {
namespace {

using Tokens = std::vector<int64_t>;

// A derivation's sentence, the level of the boundary before each of its tokens but the first, and its probability.
struct Derivation {
  Tokens tokens, boundaries;
  double probability;
};

// All derivations of a symbol: every choice of a rule for it and for everything below.
std::vector<Derivation> derivations(const LayeredGrammar& grammar, int64_t level, size_t symbol) {
  if (level == 0) return {{{static_cast<int64_t>(symbol)}, {}, 1}};
  std::vector<Derivation> all;
  const auto& rules = grammar.rules(level, symbol);
  for (const auto& rule : rules) {
    std::vector<Derivation> partial{{{}, {}, 1 / static_cast<double>(rules.size())}};
    for (const size_t part : rule) {
      std::vector<Derivation> longer;
      for (const Derivation& left : partial) {
        for (const Derivation& right : derivations(grammar, level - 1, part)) {
          Derivation both = left;
          both.tokens.insert(both.tokens.end(), right.tokens.begin(), right.tokens.end());
          if (!left.tokens.empty()) both.boundaries.push_back(level);
          both.boundaries.insert(both.boundaries.end(), right.boundaries.begin(), right.boundaries.end());
          both.probability *= right.probability;
          longer.push_back(std::move(both));
        }
      }
      partial = std::move(longer);
    }
    all.insert(all.end(), partial.begin(), partial.end());
  }
  return all;
}

TEST(LayeredGrammar, HasTheRulesThatWereAskedFor) {
  const LayeredGrammar grammar(4, 3, 5, Random{1});
  EXPECT_EQ(grammar.levels(), 4);
  for (int64_t level = 1; level <= 4; ++level) {
    std::set<std::vector<size_t>> different;
    for (size_t symbol = 0; symbol < (level == 4 ? 1u : 3u); ++symbol) {
      EXPECT_EQ(grammar.rules(level, symbol).size(), 5u);
      for (const auto& rule : grammar.rules(level, symbol)) {
        EXPECT_TRUE(rule.size() == 2 || rule.size() == 3);
        for (const size_t part : rule) EXPECT_LT(part, 3u);
        EXPECT_TRUE(different.insert(rule).second);
      }
    }
  }
  const LayeredGrammar full(2, 3, LayeredGrammar::most_rules(3) / 3, Random{1});  // as many rules as are allowed
  EXPECT_EQ(full.rules(1, 2).size(), 6u);
}

TEST(LayeredGrammar, DrawsDerivationsByTheirProbability) {
  const LayeredGrammar grammar(2, 2, 2, Random{3});
  std::map<std::pair<Tokens, Tokens>, double> expected;
  for (const Derivation& one : derivations(grammar, 2, 0)) {
    Tokens levels{3};
    levels.insert(levels.end(), one.boundaries.begin(), one.boundaries.end());
    expected[{one.tokens, levels}] += one.probability;
  }
  Random random{4};
  constexpr int64_t kDraws = 20'000;
  std::map<std::pair<Tokens, Tokens>, int64_t> counts;
  for (int64_t i = 0; i < kDraws; ++i) {
    const Sentence sentence = grammar.draw(random);
    ++counts[{sentence.tokens, sentence.levels}];
  }
  for (const auto& [sentence, count] : counts) EXPECT_TRUE(expected.contains(sentence));
  for (const auto& [sentence, share] : expected) {
    EXPECT_NEAR(counts[sentence], kDraws * share, 5 * std::sqrt(kDraws * share));
  }
}

// Surprisals against sums over all derivations that begin with the same tokens.
TEST(LayeredGrammar, SurprisalsAreThoseOfTheEnumeration) {
  for (const auto& [levels, symbols, rules] : {std::tuple{1, 2, 3}, {2, 2, 3}, {2, 3, 2}, {3, 2, 2}}) {
    const LayeredGrammar grammar(levels, symbols, rules, Random{5});
    std::map<Tokens, double> sentences, prefixes;
    for (const Derivation& one : derivations(grammar, levels, 0)) {
      sentences[one.tokens] += one.probability;
      for (size_t end = 0; end <= one.tokens.size(); ++end) {
        prefixes[Tokens(one.tokens.begin(), one.tokens.begin() + static_cast<int64_t>(end))] += one.probability;
      }
    }
    size_t checked = 0;
    for (const auto& [tokens, probability] : sentences) {
      if (++checked > 300) break;
      const std::vector<double> nats = grammar.surprisal(tokens);
      ASSERT_EQ(nats.size(), tokens.size() + 1);
      Tokens prefix;
      for (size_t i = 0; i < tokens.size(); ++i) {
        const double before = prefixes.at(prefix);
        prefix.push_back(tokens[i]);
        EXPECT_NEAR(nats[i], -std::log(prefixes.at(prefix) / before), 1e-12);
      }
      EXPECT_NEAR(nats.back(), -std::log(probability / prefixes.at(prefix)), 1e-12);
    }
    EXPECT_GT(checked, 2u);
  }
}

TEST(LayeredGrammar, SurprisalsOfLongSentencesAreFinite) {
  const LayeredGrammar grammar(6, 3, 3, Random{6});
  Random random{7};
  Tokens tokens;
  while (tokens.size() < 200) tokens = grammar.draw(random).tokens;
  double sum = 0;
  for (const double nats : grammar.surprisal(tokens)) {
    ASSERT_TRUE(std::isfinite(nats));
    ASSERT_GE(nats, -1e-9);
    sum += nats;
  }
  // Less than if all derivations had different sentences: each token is in two thirds of an expansion or less.
  EXPECT_LT(sum, static_cast<double>(tokens.size()) * std::log(3.0));
  EXPECT_GT(sum, 0.2 * static_cast<double>(tokens.size()));
}

TEST(LayeredGrammar, WhatIsNoSentenceHasInfiniteSurprisal) {
  const LayeredGrammar grammar(2, 3, 2, Random{5});
  Tokens tokens = derivations(grammar, 2, 0).front().tokens;
  tokens.insert(tokens.end(), 9, 0);  // longer than any sentence
  const std::vector<double> nats = grammar.surprisal(tokens);
  EXPECT_TRUE(std::isfinite(nats[0]));
  EXPECT_TRUE(std::isinf(nats[9]));
  EXPECT_TRUE(std::isinf(nats.back()));
}

}  // namespace
}  // namespace klab
