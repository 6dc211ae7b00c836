// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

const std::vector<std::string> kKinds = {"single", "multi_key", "multi_value", "multi_query"};

std::vector<std::string> settings(const std::string& kind, const std::vector<std::string>& more = {}) {
  std::vector<std::string> all = {"task.name=needle", "task.length=64", "task.vocab=16", "task.needle.kind=" + kind};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

// A needle as parsed from a sequence, and the number of noise tokens before it.
struct Found {
  std::string key;
  std::vector<std::string> value;
  int64_t noise_before;
};

struct Haystack {
  std::vector<Found> needles;
  int64_t noise = 0;
  size_t end = 0;  // position of the first query
};

Haystack read_haystack(const std::vector<std::string>& words, size_t value_tokens) {
  Haystack haystack;
  size_t at = 0;
  while (words.at(at) != "<query>") {
    if (words[at] != "<needle>") {
      EXPECT_EQ(words[at][0], 'n');
      ++haystack.noise;
      ++at;
      continue;
    }
    EXPECT_EQ(words.at(at + 1)[0], 'k');
    Found found{words[at + 1], {}, haystack.noise};
    for (size_t i = 0; i < value_tokens; ++i) {
      EXPECT_EQ(words.at(at + 2 + i)[0], 'v');
      found.value.push_back(words[at + 2 + i]);
    }
    haystack.needles.push_back(found);
    at += 2 + value_tokens;
  }
  haystack.end = at;
  return haystack;
}

// The answer to a query is the values of all needles with its key, in haystack order.
Expected replay(const std::vector<std::string>& words, size_t value_tokens) {
  const Haystack haystack = read_haystack(words, value_tokens);
  Expected expected;
  while (expected.labels.size() < haystack.end) expected.none();
  while (expected.labels.size() < words.size()) {
    const size_t query = expected.labels.size();
    EXPECT_EQ(words[query], "<query>");
    expected.none();
    size_t fed = query + 2;
    for (const Found& found : haystack.needles) {
      if (found.key != words.at(query + 1)) continue;
      for (const std::string& symbol : found.value) {
        expected.ask(symbol, std::min<int64_t>(9, 10 * found.noise_before / haystack.noise));
        EXPECT_EQ(words.at(fed++), symbol) << "answers are inputs";
      }
    }
    expected.none();
    EXPECT_GT(fed, query + 2) << words.at(query + 1) << " was never stored";
    if (fed <= query + 2) break;
  }
  return expected;
}

TEST(Needle, AsksForWhatTheNeedlesSaid) {
  for (const std::string& kind : kKinds) {
    for (const int64_t value_tokens : {1, 3}) {
      for (const int64_t depth : {-1, 0, 37, 100}) {
        const auto task = make_task(settings(kind, {fmt::format("task.needle.value_tokens={}", value_tokens),
                                                    fmt::format("task.needle.depth={}", depth), "task.length=100"}));
        for (int64_t index = 0; index < 20; ++index) {
          const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
          expect_example(*task, drawn, 100, replay(printed_inputs(*task, drawn), static_cast<size_t>(value_tokens)));
        }
      }
    }
  }
}

TEST(Needle, HasTheNeedlesAndQueriesOfItsKind) {
  for (const std::string& kind : kKinds) {
    const auto task = make_task(settings(kind, {"task.needle.needles=5"}));
    for (int64_t index = 0; index < 50; ++index) {
      const auto words = printed_inputs(*task, task->example(1, Split::train, index));
      const Haystack haystack = read_haystack(words, 1);
      std::set<std::string> keys, queried;
      for (const Found& found : haystack.needles) keys.insert(found.key);
      for (size_t i = haystack.end; i < words.size(); ++i) {
        if (words[i] == "<query>") {
          EXPECT_TRUE(queried.insert(words[i + 1]).second) << words[i + 1] << " is queried twice";
        }
      }
      EXPECT_EQ(haystack.needles.size(), kind == "single" ? 1u : 5u);
      EXPECT_EQ(keys.size(), kind == "single" || kind == "multi_value" ? 1u : 5u) << kind;
      EXPECT_EQ(queried.size(), kind == "multi_query" ? 5u : 1u) << kind;
    }
  }
}

TEST(Needle, OnlyTheHayDependsOnTheLength) {
  for (const std::string& kind : kKinds) {
    std::set<int64_t> vocabularies, not_noise;
    for (const int64_t length : {64, 128, 512}) {
      const auto task = make_task(settings(kind, {fmt::format("task.length={}", length)}));
      const Haystack haystack = read_haystack(printed_inputs(*task, task->example(1, Split::train, 0)), 1);
      vocabularies.insert(task->vocabulary());
      not_noise.insert(length - haystack.noise);
    }
    EXPECT_EQ(vocabularies.size(), 1u);
    EXPECT_EQ(not_noise.size(), 1u);
  }
}

TEST(Needle, TheAskedNeedleStandsAtTheDepth) {
  for (const int64_t depth : {0, 10, 50, 85, 90, 100}) {
    for (const std::string& kind : kKinds) {
      // A tenth of this haystack is not a whole number of tokens.
      const auto task = make_task(settings(kind, {fmt::format("task.needle.depth={}", depth), "task.length=77"}));
      for (int64_t index = 0; index < 20; ++index) {
        const Example drawn = task->example(3, Split::train, index);
        std::set<int64_t> depths(drawn.difficulty.begin(), drawn.difficulty.end());
        EXPECT_TRUE(depths.contains(std::min<int64_t>(9, depth / 10))) << kind << " at " << depth;
        EXPECT_LE(depths.size(), kind == "single" || kind == "multi_key" ? 2u : 5u);
        const Haystack haystack = read_haystack(printed_inputs(*task, drawn), 1);
        const auto noise_before = static_cast<int64_t>(std::ceil(static_cast<double>(depth * haystack.noise) / 100));
        EXPECT_TRUE(std::any_of(haystack.needles.begin(), haystack.needles.end(),
                                [&](const Found& found) { return found.noise_before == noise_before; }));
      }
    }
  }
}

TEST(Needle, WithoutADepthNeedlesStandAnywhere) {
  for (const std::string& kind : kKinds) {
    const auto task = make_task(settings(kind, {"task.length=256"}));
    std::vector<int64_t> counts(10, 0);
    for (int64_t index = 0; index < 2000; ++index) {
      for (const int64_t depth : task->example(2, Split::train, index).difficulty) {
        if (depth >= 0) ++counts[static_cast<size_t>(depth)];
      }
    }
    double targets = 0;
    for (const int64_t count : counts) targets += static_cast<double>(count);
    // The last tenth has one position more than the others, of about 25.
    for (const int64_t count : counts) EXPECT_NEAR(static_cast<double>(count) / targets, 0.1, 0.04) << kind;
  }
}

TEST(Needle, AsksAnyOfSeveralNeedles) {
  // So few noise tokens that needles are often adjacent: then too each of them must be queried equally often.
  const auto task = make_task(settings("multi_key", {"task.needle.needles=8", "task.length=37"}));
  std::vector<int64_t> counts(8, 0);
  for (int64_t index = 0; index < 3200; ++index) {
    const auto words = printed_inputs(*task, task->example(2, Split::train, index));
    const Haystack haystack = read_haystack(words, 1);
    for (size_t i = 0; i < 8; ++i) counts[i] += haystack.needles[i].key == words[haystack.end + 1];
  }
  // 400 of each, with a standard deviation of 19.
  for (const int64_t count : counts) EXPECT_NEAR(count, 400, 5 * 19);
}

TEST(Needle, QueriesComeInAnyOrder) {
  const auto task = make_task(settings("multi_query", {"task.needle.needles=2"}));
  int64_t in_order = 0;
  for (int64_t index = 0; index < 1000; ++index) {
    const auto words = printed_inputs(*task, task->example(2, Split::train, index));
    const Haystack haystack = read_haystack(words, 1);
    in_order += haystack.needles[0].key == words[haystack.end + 1];
  }
  // 500, with a standard deviation of 16.
  EXPECT_NEAR(in_order, 500, 5 * 16);
}

TEST(Needle, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task(settings("multi_key")), 5), golden(*make_task(settings("multi_key")), 5));
  EXPECT_NE(golden(*make_task(settings("multi_key")), 5), golden(*make_task(settings("multi_key")), 6));
  EXPECT_EQ(golden(*make_task(settings("single")), 5), 0xcbf100e2ffdfae98u);
  EXPECT_EQ(golden(*make_task(settings("multi_key")), 5), 0xf7c68e417a13d481u);
  EXPECT_EQ(golden(*make_task(settings("multi_value", {"task.needle.value_tokens=2"})), 5), 0x17f49a7eb83bde5bu);
  EXPECT_EQ(golden(*make_task(settings("multi_query", {"task.needle.depth=50"})), 5), 0xb00d42f0175b550u);
}

TEST(Needle, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(
      *make_task({"task.name=needle", "task.length=16", "task.vocab=8", "task.needle.noise_vocab=1"}));
}

TEST(Needle, NamesItsTokens) {
  const auto task = make_task(settings("single"));
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 16 + 16 + 2);
  EXPECT_EQ(task->token_name(7), "k7");
  EXPECT_EQ(task->token_name(8 + 3), "v3");
  EXPECT_EQ(task->token_name(16 + 9), "n9");
  EXPECT_EQ(task->token_name(32), "<needle>");
  EXPECT_EQ(task->difficulty_name(), "depth");
}

TEST(Needle, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal({"task.name=needle", "task.length=15"}),
            "task.length = 15 must be at least 16 for needle: 3 tokens of needles, 3 of queries and 10 of noise");
  EXPECT_NE(refusal({"task.name=needle", "task.needle.kind=multi_value", "task.length=27"}).find("at least 28"),
            std::string::npos);
  EXPECT_NE(refusal({"task.name=needle", "task.needle.kind=multi_query", "task.length=33"}).find("at least 34"),
            std::string::npos);
  EXPECT_EQ(refusal({"task.name=needle", "task.needle.kind=multi_key", "task.vocab=6"}),
            "task.vocab = 6 must be even and at least 8 for needle: the first half are keys, 4 of which occur in a "
            "sequence, the second half values");
  for (const char* depth : {"-2", "101"}) {
    EXPECT_EQ(refusal({"task.name=needle", fmt::format("task.needle.depth={}", depth)}),
              fmt::format("command line: task.needle.depth = {} must be between -1 and 100", depth));
  }
  for (const char* key : {"needles", "value_tokens", "noise_vocab"}) {
    for (const char* value : {"0", "9000000000000000"}) {
      EXPECT_NE(refusal({"task.name=needle", fmt::format("task.needle.{}={}", key, value)})
                    .find(fmt::format("task.needle.{} = {} must be between 1 and", key, value)),
                std::string::npos);
    }
  }
  EXPECT_NE(refusal({"task.name=needle", "task.needle.kind=double"}).find("kind = double must be one of"),
            std::string::npos);
}

}  // namespace
}  // namespace klab
