// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

using Words = std::vector<std::string>;

Words settings(const Words& more) {
  Words all = {"task.name=depo"};
  for (const std::string& one : more) {
    all.push_back((one.starts_with("length=") || one.starts_with("vocab=") ? "task." : "task.depo.") + one);
  }
  return all;
}

// Reads a name at `at`, which it moves behind it: tokens x.. and a last one z.., or one token x.. if `single`.
std::string read_name(const Words& words, size_t& at, bool single) {
  std::string name;
  do {
    EXPECT_TRUE(words.at(at)[0] == 'x' || words.at(at)[0] == 'z') << words.at(at);
    name += words.at(at);
  } while (words.at(at++)[0] != 'z' && !single);
  return name;
}

struct Reader {
  const Words& words;
  bool single;
  size_t at = 0;
  std::map<std::string, std::string> next = {};
  Expected expected = {};

  std::string name() { return read_name(words, at, single); }

  void edges() {
    EXPECT_EQ(words.at(at++), "<bos>");
    while (words.at(at)[0] != '<') {
      const std::string from = name();
      EXPECT_TRUE(next.emplace(from, name()).second) << from << " has two edges";
    }
    std::set<std::string> seen;
    std::string node = next.begin()->first;
    while (seen.insert(node).second) node = next.at(node);
    EXPECT_EQ(seen.size(), next.size()) << "several cycles";
    while (expected.labels.size() < at) expected.none();
  }

  void query() {
    const std::string mark = words.at(at++);
    ASSERT_TRUE(mark.starts_with("<query_")) << mark;
    const int64_t hops = std::stoll(mark.substr(7));
    std::string node = name();
    for (int64_t i = 0; i < hops; ++i) node = next.at(node);
    ASSERT_EQ(words.at(at), "<ans>");
    while (expected.labels.size() < at) expected.none();
    const size_t answer = at + 1;
    at = answer;
    EXPECT_EQ(name(), node) << "the answer is an input";
    for (size_t t = answer; t < at; ++t) expected.ask(words[t], hops);
    expected.none();
  }
};

Expected replay(const Words& words, bool single, size_t queries) {
  Reader reader{words, single};
  reader.edges();
  size_t asked = 0;
  for (; reader.at < words.size() && words[reader.at] != "<pad>"; ++asked) reader.query();
  EXPECT_EQ(asked, std::min(queries, reader.next.size()));
  while (reader.expected.labels.size() < words.size()) reader.expected.none();
  return reader.expected;
}

TEST(Depo, AsksForSuccessors) {
  const struct {
    Words more;
    bool single;
    size_t queries;
  } cases[] = {
      {{"length=64"}, true, 10},
      {{"length=61", "min_nodes=10"}, true, 10},
      {{"length=21", "nodes=5", "queries=2", "hops=9", "vocab=5"}, true, 2},
      {{"length=100", "vocab=3", "nodes=6", "queries=3", "name_shortest=2", "name_longest=4"}, false, 3},
      {{"length=100", "vocab=50", "nodes=12", "queries=5", "name_shortest=1", "name_longest=2"}, false, 5},
  };
  for (const auto& [more, single, queries] : cases) {
    const auto task = make_task(settings(more));
    for (int64_t index = 0; index < 30; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      const Words words = printed_inputs(*task, drawn);
      expect_example(*task, drawn, static_cast<int64_t>(words.size()), replay(words, single, queries));
    }
  }
}

TEST(Depo, DrawsHopsAndNodesUniformly) {
  const auto task =
      make_task(settings({"length=40", "vocab=6", "nodes=6", "min_nodes=6", "queries=6", "hops=5", "min_hops=2"}));
  std::map<std::string, int64_t> hops, nodes;
  for (int64_t index = 0; index < 200; ++index) {
    const Words words = printed_inputs(*task, task->example(2, Split::train, index));
    for (size_t t = 13; t + 1 < words.size() && words[t] != "<pad>"; t += 4) {
      ++hops[words[t]];
      ++nodes[words[t + 1]];
    }
  }
  // 1200 queries: 300 of each number of hops and 200 of each node, with standard deviations of 15 and 13.
  EXPECT_EQ(hops.size(), 4u);
  EXPECT_EQ(nodes.size(), 6u);
  for (const auto& [word, count] : hops) EXPECT_NEAR(count, 300, 5 * 15) << word;
  for (const auto& [word, count] : nodes) EXPECT_NEAR(count, 200, 5 * 13) << word;
}

TEST(Depo, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(*make_task(settings({"length=11", "vocab=3", "nodes=3", "queries=1", "hops=8"})));
}

TEST(Depo, IsTheSameOnEveryMachine) {
  const auto task = make_task(settings({"length=64"}));
  EXPECT_EQ(golden(*task, 5), golden(*task, 5));
  EXPECT_NE(golden(*task, 5), golden(*task, 6));
  EXPECT_EQ(golden(*task, 5), 0x2582b664f936ae6cu);
}

TEST(Depo, NamesItsTokens) {
  const auto task = make_task(settings({"vocab=16"})), more = make_task(settings({"vocab=16", "hops=8"}));
  for (const auto* each : {&task, &more}) expect_distinct_names(**each);
  EXPECT_EQ(task->vocabulary(), 16 + 3 + 4);
  EXPECT_EQ(more->vocabulary(), 16 + 3 + 8);
  for (int64_t id = 0; id < task->vocabulary(); ++id) EXPECT_EQ(task->token_name(id), more->token_name(id));
  EXPECT_EQ(task->token_name(16 + 3), "<query_1>");
  EXPECT_EQ(task->difficulty_name(), "hops");
}

TEST(Depo, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal(settings({"length=60"})),
            "task.length = 60 must be at least 61 for depo: the longest row with 10 nodes, names of up to 1 tokens and "
            "10 queries");
  EXPECT_NE(
      refusal(settings({"length=50", "vocab=4", "nodes=5", "queries=3", "name_longest=3"})).find("must be at least 55"),
      std::string::npos);
  EXPECT_EQ(refusal(settings({"hops=3", "min_hops=4"})), "task.depo.min_hops = 4 must be at most task.depo.hops = 3");
  EXPECT_NE(refusal(settings({"vocab=9"})).find("it gives 9 names of 1 to 1 tokens, but there are up to 10 nodes"),
            std::string::npos);
}

}  // namespace
}  // namespace klab
