// SPDX-License-Identifier: Apache-2.0
#include "tasks/lano.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "tasks/support.h"

namespace klab {
namespace {

using Words = std::vector<std::string>;

Words settings(const Words& more) {
  Words all = {"task.name=lano"};
  for (const std::string& one : more) all.push_back((one.starts_with("length=") ? "task." : "task.lano.") + one);
  return all;
}

// A recogniser that works downwards: which ends a symbol's yield can have that begins at a place.
class Recogniser {
 public:
  Recogniser(const LayeredGrammar& grammar, const Words& sentence) : grammar_(grammar), sentence_(sentence) {}

  bool accepts() { return ends(grammar_.levels(), 0, 0).contains(sentence_.size()); }

 private:
  std::set<size_t> ends(int64_t level, size_t symbol, size_t begin) {
    if (level == 0) {
      const bool fits = begin < sentence_.size() && sentence_[begin] == std::to_string(symbol + 1);
      return fits ? std::set<size_t>{begin + 1} : std::set<size_t>{};
    }
    const auto known = known_.find({level, symbol, begin});
    if (known != known_.end()) return known->second;
    std::set<size_t> all;
    for (const auto& rule : grammar_.rules(level, symbol)) {
      std::set<size_t> reached{begin};
      for (const size_t part : rule) {
        std::set<size_t> next;
        for (const size_t middle : reached) next.merge(ends(level - 1, part, middle));
        reached = next;
      }
      all.merge(reached);
    }
    return known_[{level, symbol, begin}] = all;
  }

  const LayeredGrammar& grammar_;
  const Words& sentence_;
  std::map<std::tuple<int64_t, size_t, size_t>, std::set<size_t>> known_;
};

// The sentences of a row that are complete.
std::vector<Words> complete_sentences(const Words& words) {
  std::vector<Words> sentences;
  EXPECT_EQ(words.front(), "<bos>");
  for (auto from = words.begin() + 1; from != words.end();) {
    const auto to = std::find(from, words.end(), "<bos>");
    if (to == words.end()) break;
    sentences.emplace_back(from, to);
    from = to + 1;
  }
  return sentences;
}

TEST(Lano, ItsSentencesAreThoseOfTheGrammar) {
  const auto task = make_task(settings({"length=300"}));
  const LayeredGrammar& grammar = dynamic_cast<const Lano&>(*task).grammar();
  int64_t changed_ones_accepted = 0, sentences = 0;
  for (int64_t index = 0; index < 20; ++index) {
    const Words words = printed_inputs(*task, task->example(1, index % 2 ? Split::test : Split::train, index));
    for (Words sentence : complete_sentences(words)) {
      EXPECT_TRUE(sentence.size() >= 16 && sentence.size() <= 81) << sentence.size();
      EXPECT_TRUE(Recogniser(grammar, sentence).accepts());
      std::string& token = sentence[sentence.size() / 2];
      token = token == "1" ? "2" : "1";
      changed_ones_accepted += Recogniser(grammar, sentence).accepts();
      ++sentences;
    }
  }
  EXPECT_GT(sentences, 60);
  EXPECT_LT(changed_ones_accepted, sentences / 2) << "nearly everything is a sentence";
}

TEST(Lano, AsksForTheNextToken) {
  for (const int64_t length : {2, 17, 64}) {
    const auto task = make_task(settings({fmt::format("length={}", length), "levels=3"}));
    for (int64_t index = 0; index < 20; ++index) {
      const Example drawn = task->example(1, Split::train, index);
      ASSERT_EQ(drawn.size(), length);
      EXPECT_EQ(task->token_name(drawn.inputs[0]), "<bos>");
      for (size_t t = 1; t < drawn.inputs.size(); ++t) ASSERT_EQ(drawn.inputs[t], drawn.labels[t - 1]);
      EXPECT_TRUE(drawn.surprisal.empty());
    }
  }
}

// A level is at most that of the grammar inside sentences, one more at their borders, and every third token or more
// begins a constituent of the lowest level.
TEST(Lano, DifficultiesAreLevels) {
  const auto task = make_task(settings({"length=200"}));
  for (int64_t index = 0; index < 20; ++index) {
    const Example drawn = task->example(1, Split::train, index);
    int64_t since_border = 0;
    for (size_t t = 0; t < drawn.inputs.size(); ++t) {
      const bool border = task->token_name(drawn.inputs[t]) == "<bos>" || task->token_name(drawn.labels[t]) == "<bos>";
      EXPECT_EQ(drawn.difficulty[t] == 5, border);
      EXPECT_GE(drawn.difficulty[t], 1);
      since_border = drawn.difficulty[t] > 1 ? 0 : since_border + 1;
      EXPECT_LT(since_border, 3);
    }
  }
}

TEST(Lano, KnowsTheSurprisalOfItsTargets) {
  const auto task = make_task(settings({"length=50", "levels=2", "surprisal=true"}));
  const auto without = make_task(settings({"length=50", "levels=2"}));
  const LayeredGrammar& grammar = dynamic_cast<const Lano&>(*task).grammar();
  for (int64_t index = 0; index < 10; ++index) {
    const Example drawn = task->example(1, Split::train, index);
    EXPECT_EQ(drawn.inputs, without->example(1, Split::train, index).inputs);
    ASSERT_EQ(drawn.surprisal.size(), 50u);
    // The second sentence by itself.
    const auto from = std::find(drawn.inputs.begin() + 1, drawn.inputs.end(), drawn.inputs[0]),
               to = std::find(from + 1, drawn.inputs.end(), drawn.inputs[0]);
    ASSERT_NE(to, drawn.inputs.end());
    const std::vector<double> nats = grammar.surprisal({from + 1, to});
    const auto first = drawn.surprisal.begin() + (from - drawn.inputs.begin());
    EXPECT_EQ(nats, std::vector<double>(first, first + (to - from)));
  }
}

TEST(Lano, TheGrammarIsThatOfItsSeed) {
  const auto rules_of = [](const Words& more) {
    const auto task = make_task(settings(more));
    const LayeredGrammar& grammar = dynamic_cast<const Lano&>(*task).grammar();
    return std::pair{grammar.rules(1, 1), grammar.rules(grammar.levels(), 0)};
  };
  EXPECT_EQ(rules_of({"length=64"}), rules_of({"length=200"}));
  EXPECT_NE(rules_of({"grammar_seed=0"}), rules_of({"grammar_seed=1"}));
}

TEST(Lano, TrainAndTestShareNoRow) {
  expect_disjoint_splits(*make_task(settings({"length=12", "levels=2", "symbols=2", "rules=2"})));
}

TEST(Lano, IsTheSameOnEveryMachine) {
  const auto task = make_task(settings({"length=64"}));
  EXPECT_EQ(golden(*task, 5), golden(*task, 5));
  EXPECT_NE(golden(*task, 5), golden(*task, 6));
  EXPECT_EQ(golden(*task, 5), 0x4f9f575865ffd6dau);
}

TEST(Lano, NamesItsTokens) {
  const auto task = make_task(settings({"symbols=4"}));
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 4 + 1);
  EXPECT_EQ(task->token_name(0), "1");
  EXPECT_EQ(task->difficulty_name(), "level");
}

TEST(Lano, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal(settings({"rules=7"})),
            "task.lano.rules = 7 must be at most 6 with task.lano.symbols = 3, so that no two symbols share a rule");
  make_task(settings({"rules=6"}));
  EXPECT_EQ(refusal(settings({"length=1"})), "task.length = 1 must be at least 2 for lano: <bos> and a token");
  EXPECT_NE(refusal(settings({"levels=0"})).find("levels = 0 must be between 1 and 12"), std::string::npos);
}

}  // namespace
}  // namespace klab
