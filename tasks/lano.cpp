// SPDX-License-Identifier: Apache-2.0
#include "tasks/lano.h"

#include <fmt/format.h>

#include <limits>

#include "core/base/error.h"

namespace klab {
namespace {

LayeredGrammar checked_grammar(const LanoOptions& options) {
  const int64_t most = LayeredGrammar::most_rules(options.symbols) / options.symbols;
  require(options.rules <= most, "task.lano.rules", fmt::format("{}", options.rules),
          fmt::format("must be at most {} with task.lano.symbols = {}, so that no two symbols share a rule", most,
                      options.symbols));
  return {options.levels, options.symbols, options.rules, Random{static_cast<uint64_t>(options.grammar_seed)}};
}

}  // namespace

void LanoOptions::visit(Fields& fields) {
  fields("levels", levels, {1, 12}, "levels of the grammar: sentences have 2^levels to 3^levels tokens");
  fields("symbols", symbols, {2, 1000}, "symbols of a level; those of the lowest are the vocabulary");
  fields("rules", rules, {2, 1000}, "rules of a symbol, each with 2 or 3 symbols of the next lower level");
  fields("grammar_seed", grammar_seed, {0, std::numeric_limits<int64_t>::max()}, "seed of the rules");
  fields("surprisal", surprisal, "compute the true probability of every target: slow for long sentences");
}

Lano::Lano(const TaskShape& shape, const LanoOptions& options)
    : shape_(shape), symbols_(options.symbols), surprisal_(options.surprisal), grammar_(checked_grammar(options)) {
  require(shape.length >= 2, "task.length", fmt::format("{}", shape.length),
          "must be at least 2 for lano: <bos> and a token");
}

Example Lano::generate(Random& random) const {
  Example example;
  while (example.size() < shape_.length) append_sentence(example, grammar_.draw(random));
  return example;
}

void Lano::append_sentence(Example& example, const Sentence& sentence) const {
  const std::vector<double> nats = surprisal_ ? grammar_.surprisal(sentence.tokens) : std::vector<double>();
  int64_t input = bos();
  for (size_t i = 0; i <= sentence.tokens.size() && example.size() < shape_.length; ++i) {
    const bool ends = i == sentence.tokens.size();
    const int64_t target = ends ? bos() : sentence.tokens[i];
    example.append(input, target, ends ? grammar_.levels() + 1 : sentence.levels[i]);
    if (surprisal_) example.surprisal.push_back(nats[i]);
    input = target;
  }
}

std::string Lano::token_name(int64_t id) const {
  if (id < 0 || id > bos()) fail("lano has no token {}: the ids are 0 to {}", id, bos());
  return id == bos() ? "<bos>" : fmt::format("{}", id + 1);
}

TaskEntry lano_task() { return task_entry<Lano, LanoOptions>("lano", "sentences of a random grammar (Canon suite)"); }

}  // namespace klab
