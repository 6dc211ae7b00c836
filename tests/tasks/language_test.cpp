// SPDX-License-Identifier: Apache-2.0
// The language source: its probabilities against frequencies, and its parts against a reader of printed tokens.
#include "tasks/language.h"

#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

double probability(const Example& example) {
  return std::exp(-std::accumulate(example.surprisal.begin(), example.surprisal.end(), 0.0));
}

// Every sequence of a tiny source with its probability by the surprisals, and how often it was drawn.
struct Outcome {
  double probability = 0;
  int64_t count = 0;
};

class LanguageProbabilities : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(LanguageProbabilities, AreThoseOfTheSequences) {
  std::vector<std::string> settings{"task.name=language"};
  settings.insert(settings.end(), GetParam().begin(), GetParam().end());
  const auto task = make_task(settings);
  const auto& source = dynamic_cast<const GeneratedTask&>(*task);
  constexpr int64_t kDraws = 40'000;
  std::map<std::vector<int64_t>, Outcome> outcomes;
  for (uint64_t i = 0; i < kDraws; ++i) {
    Random random{i};
    const Example drawn = source.generate(random);
    Outcome& outcome = outcomes[drawn.labels];
    if (outcome.count++ == 0) outcome.probability = probability(drawn);
    ASSERT_DOUBLE_EQ(outcome.probability, probability(drawn));
  }
  double seen = 0;
  for (const auto& [labels, outcome] : outcomes) {
    seen += outcome.probability;
    const double expected = kDraws * outcome.probability;
    if (expected < 20) continue;
    EXPECT_NEAR(static_cast<double>(outcome.count), expected, 5.5 * std::sqrt(expected))
        << testing::PrintToString(labels);
  }
  EXPECT_LE(seen, 1 + 1e-9);
  EXPECT_GT(seen, 0.97);  // the sequences that were not drawn have the rest
}

INSTANTIATE_TEST_SUITE_P(
    Each, LanguageProbabilities,
    testing::Values(std::vector<std::string>{"task.length=5", "task.vocab=2", "task.language.recur=0.5",
                                             "task.language.open=0", "task.language.span=0"},
                    std::vector<std::string>{"task.length=4", "task.vocab=1", "task.language.open=0.3",
                                             "task.language.close=0.3", "task.language.depth=2"},
                    std::vector<std::string>{"task.length=5", "task.vocab=2", "task.language.open=0",
                                             "task.language.span=0.4", "task.language.span_end=0.3",
                                             "task.language.span_most=2"},
                    std::vector<std::string>{"task.length=4", "task.vocab=2", "task.language.brackets=1",
                                             "task.language.depth=1", "task.language.order_two=1",
                                             "task.language.zipf=0.7", "task.language.recur_power=0"}));

// Reads a sequence by the rules of the class comment. Returns the error, or "".
std::string broken_rule(const std::vector<std::string>& words, int64_t depth, size_t most) {
  std::vector<std::string> open, span;
  bool pushing = false, popping = false;
  for (const std::string& word : words) {
    if (popping) {
      if (word != span.back()) return "not reversed";
      span.pop_back();
      popping = !span.empty();
    } else if (word == "<pop>") {
      if (!pushing || span.empty()) return "pop of nothing";
      pushing = false;
      popping = true;
    } else if (pushing) {
      if (word[0] != 'w') return "no word in a span";
      span.push_back(word);
      if (span.size() > most) return "a long span";
    } else if (word == "<push>") {
      pushing = true;
    } else if (word[0] == '(') {
      open.push_back(word.substr(1));
      if (static_cast<int64_t>(open.size()) > depth) return "too deep";
    } else if (word.back() == ')') {
      if (open.empty() || open.back() + ")" != word) return "unmatched " + word;
      open.pop_back();
    }
  }
  return "";
}

TEST(Language, ObeysItsRules) {
  const auto task = make_task({"task.name=language", "task.length=200", "task.language.open=0.15",
                               "task.language.span=0.05", "task.language.depth=3", "task.language.span_most=5"});
  std::set<std::string> seen;
  for (int64_t index = 0; index < 30; ++index) {
    const Example drawn = task->example(1, Split::train, index);
    const std::vector<std::string> labels = printed_labels(*task, drawn), inputs = printed_inputs(*task, drawn);
    EXPECT_EQ(broken_rule(labels, 3, 5), "");
    EXPECT_EQ(inputs[0], "<start>");
    for (size_t t = 1; t < inputs.size(); ++t) ASSERT_EQ(inputs[t], labels[t - 1]);
    seen.insert(labels.begin(), labels.end());
  }
  for (const char* token : {"<push>", "<pop>", "(0", "(1", "0)", "1)"}) EXPECT_TRUE(seen.contains(token)) << token;
}

// The mean surprisal of two disjoint sets of sequences: both estimate the entropy per token.
TEST(Language, HasTheSameEntropyInEverySplit) {
  const auto task = make_task({"task.name=language", "task.length=128"});
  std::vector<double> means;
  double variance = 0;
  constexpr int64_t kSequences = 300;
  for (const Split split : {Split::train, Split::validation}) {
    double sum = 0, squares = 0;
    for (int64_t index = 0; index < kSequences; ++index) {
      const double nats = -std::log(probability(task->example(1, split, index))) / 128;
      sum += nats / kSequences;
      squares += nats * nats / kSequences;
    }
    means.push_back(sum);
    variance += (squares - sum * sum) / kSequences;
  }
  EXPECT_NEAR(means[0], means[1], 5 * std::sqrt(variance));
}

TEST(Language, SourceSeedChangesTheOrdersOfWords) {
  const auto word_after = [](const std::string& seed) {
    const auto task = make_task({"task.name=language", "task.length=40", "task.language.source_seed=" + seed});
    return task->example(1, Split::train, 0).labels;
  };
  EXPECT_EQ(word_after("3"), word_after("3"));
  EXPECT_NE(word_after("3"), word_after("4"));
}

TEST(Language, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(*make_task({"task.name=language", "task.length=5", "task.vocab=3"}));
}

TEST(Language, NamesItsTokens) { expect_distinct_names(*make_task({"task.name=language", "task.vocab=5"})); }

TEST(Language, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task({"task.name=language", "task.length=64"}), 1), 17067013530324495276u);
}

TEST(Language, RefusesSharesThatLeaveNoWords) {
  EXPECT_EQ(refusal({"task.name=language", "task.language.open=0.9", "task.language.close=0.2"}),
            "task.language.open = 0.9 plus close plus span must be below 1: the rest is the probability of a word");
}

}  // namespace
}  // namespace klab
