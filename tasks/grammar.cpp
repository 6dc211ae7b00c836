// SPDX-License-Identifier: Apache-2.0
#include "tasks/grammar.h"

#include <cmath>
#include <limits>
#include <set>

namespace klab {
namespace {

using Rule = LayeredGrammar::Rule;
using Spans = LayeredGrammar::Spans;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Rule draw_rule(int64_t symbols, Random& random) {
  Rule rule(2 + random.below(2));
  for (size_t& symbol : rule) symbol = static_cast<size_t>(random.below(static_cast<uint64_t>(symbols)));
  return rule;
}

// Adds, for every span, the probabilities that the yields of `rule` give them, times `weight`. `below` are the spans of
// the symbols that it expands into.
void add_rule(const Rule& rule, const std::vector<Spans>& below, double weight, Spans& sum) {
  const size_t length = sum.width - 1;
  for (size_t begin = 0; begin < length; ++begin) {
    // By the end of what the symbols of the rule up to here yield exactly.
    std::vector<double> reached(length + 1, 0.0);
    reached[begin] = weight;
    for (const size_t symbol : rule) {
      const Spans& spans = below[symbol];
      std::vector<double> next(length + 1, 0.0);
      for (size_t middle = begin; middle < length; ++middle) {
        if (reached[middle] == 0) continue;
        for (size_t end = middle + 1; end <= length; ++end) {
          next[end] += reached[middle] * spans.exact[spans.at(middle, end)];
          sum.begins[sum.at(begin, end)] += reached[middle] * spans.begins[spans.at(middle, end)];
        }
      }
      reached = std::move(next);
    }
    for (size_t end = begin + 1; end <= length; ++end) sum.exact[sum.at(begin, end)] += reached[end];
  }
}

// The spans of a token: the positions where it is, with the probability 1 times `scale`.
Spans spans_of_token(const std::vector<int64_t>& tokens, int64_t token, double scale) {
  Spans spans(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const double found = tokens[i] == token ? scale : 0;
    spans.exact[spans.at(i, i + 1)] = spans.begins[spans.at(i, i + 1)] = found;
  }
  return spans;
}

}  // namespace

LayeredGrammar::LayeredGrammar(int64_t levels, int64_t symbols, int64_t rules, Random random) : symbols_(symbols) {
  for (int64_t level = 1; level <= levels; ++level) {
    std::set<Rule> taken;
    std::vector<std::vector<Rule>> of_level(static_cast<size_t>(level == levels ? 1 : symbols));
    for (std::vector<Rule>& of_symbol : of_level) {
      while (static_cast<int64_t>(of_symbol.size()) < rules) {
        const Rule rule = draw_rule(symbols, random);
        if (taken.insert(rule).second) of_symbol.push_back(rule);
      }
    }
    rules_.push_back(std::move(of_level));
  }
}

Sentence LayeredGrammar::draw(Random& random) const {
  Sentence sentence;
  expand(levels(), 0, levels() + 1, sentence, random);
  return sentence;
}

// `boundary` is the level of the smallest constituent that holds the first token of the symbol and the one before it.
void LayeredGrammar::expand(int64_t level, size_t symbol, int64_t boundary, Sentence& sentence, Random& random) const {
  if (level == 0) {
    sentence.tokens.push_back(static_cast<int64_t>(symbol));
    sentence.levels.push_back(boundary);
    return;
  }
  const std::vector<Rule>& choices = rules(level, symbol);
  for (const size_t part : choices[random.below(choices.size())]) {
    expand(level - 1, part, boundary, sentence, random);
    boundary = level;
  }
}

std::vector<double> LayeredGrammar::surprisal(const std::vector<int64_t>& tokens) const {
  const Spans root = spans_of_root(tokens);
  // Infinity if `before` is zero.
  const auto surprise = [](double now, double before) { return before > 0 ? -std::log(now / before) : kInfinity; };
  std::vector<double> nats;
  double before = 1;
  for (size_t end = 1; end <= tokens.size(); ++end) {
    const double now = root.begins[root.at(0, end)];
    nats.push_back(surprise(now, before) + std::log(scale()));
    before = now;
  }
  nats.push_back(surprise(root.exact[root.at(0, tokens.size())], before));
  return nats;
}

Spans LayeredGrammar::spans_of_root(const std::vector<int64_t>& tokens) const {
  std::vector<Spans> spans;
  for (int64_t token = 0; token < symbols_; ++token) spans.push_back(spans_of_token(tokens, token, scale()));
  for (const auto& of_level : rules_) {
    std::vector<Spans> above(of_level.size(), Spans(tokens.size()));
    for (size_t symbol = 0; symbol < of_level.size(); ++symbol) {
      const double weight = 1 / static_cast<double>(of_level[symbol].size());
      for (const Rule& rule : of_level[symbol]) add_rule(rule, spans, weight, above[symbol]);
    }
    spans = std::move(above);
  }
  return spans.front();
}

}  // namespace klab
