// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "tasks/prompt_answer.h"
#include "tasks/support.h"

namespace klab {
namespace {

using Words = std::vector<std::string>;

Words settings(const Words& more) {
  Words all = {"task.name=brevo"};
  for (const std::string& one : more) {
    all.push_back((one.starts_with("length=") || one.starts_with("vocab=") ? "task." : "task.brevo.") + one);
  }
  return all;
}

// Tokens of names as whole names: they end with z.., or have one token.
Words names_of(const Words& words, bool single) {
  Words names;
  bool ended = true;
  for (const std::string& word : words) {
    if (ended) names.emplace_back();
    names.back() += word;
    ended = single || word[0] == 'z';
  }
  EXPECT_TRUE(ended);
  return names;
}

struct Problem {
  Words mentioned;                        // every node once, in the order of the edges
  std::vector<std::vector<bool>> needs;   // [node, node]: the first depends on the second, directly or not
  std::vector<std::vector<bool>> direct;  // directly
  std::string query;
  Words answer;
};

std::map<std::string, size_t> numbers_of(const Words& names) {
  std::map<std::string, size_t> numbers;
  for (size_t i = 0; i < names.size(); ++i) numbers.emplace(names[i], i);
  return numbers;
}

Problem read_problem(const Words& words, bool single) {
  const auto query = std::find(words.begin(), words.end(), "<query>"), ans = std::find(query, words.end(), "<ans>"),
             end = std::find(ans, words.end(), "<end>");
  EXPECT_EQ(words.front(), "<bos>");
  const Words ends = names_of({words.begin() + 1, query}, single);
  EXPECT_EQ(ends.size() % 2, 0u);
  Problem problem;
  for (const std::string& name : ends) {
    if (!numbers_of(problem.mentioned).contains(name)) problem.mentioned.push_back(name);
  }
  const auto numbers = numbers_of(problem.mentioned);
  const size_t nodes = numbers.size();
  problem.direct.assign(nodes, std::vector<bool>(nodes, false));
  for (size_t i = 0; i < ends.size(); i += 2) {
    auto edge = problem.direct[numbers.at(ends[i + 1])][numbers.at(ends[i])];
    EXPECT_FALSE(edge) << "an edge twice";
    edge = true;
  }
  problem.needs = problem.direct;  // the transitive closure, by Warshall's algorithm
  for (size_t via = 0; via < nodes; ++via) {
    for (size_t a = 0; a < nodes; ++a) {
      for (size_t b = 0; b < nodes; ++b) {
        if (problem.needs[a][via] && problem.needs[via][b]) problem.needs[a][b] = true;
      }
    }
  }
  problem.query = names_of({query + 1, ans}, single).at(0);
  problem.answer = names_of({ans + 1, end}, single);
  return problem;
}

bool is_valid(const Problem& problem, const std::vector<size_t>& order) {
  for (size_t i = 0; i < order.size(); ++i) {
    for (size_t j = i + 1; j < order.size(); ++j) {
      if (problem.needs[order[i]][order[j]]) return false;
    }
  }
  return true;
}

// Of all valid orders, the first one when nodes are compared by where they are mentioned; tries all permutations.
std::vector<size_t> first_valid_order(const Problem& problem, std::vector<size_t> nodes) {
  std::sort(nodes.begin(), nodes.end());
  while (!is_valid(problem, nodes)) {
    if (!std::next_permutation(nodes.begin(), nodes.end())) ADD_FAILURE() << "a cycle";
  }
  return nodes;
}

void check_graph(const Problem& problem, int64_t degree) {
  for (size_t a = 0; a < problem.direct.size(); ++a) {
    EXPECT_FALSE(problem.needs[a][a]) << "a cycle";
    const std::vector<bool>& row = problem.direct[a];
    EXPECT_LE(std::count(row.begin(), row.end(), true), degree);
    EXPECT_LE(std::count_if(problem.direct.begin(), problem.direct.end(), [a](const auto& of) { return of[a]; }),
              degree);
  }
}

// Checks the answer, and returns how many nodes it has.
size_t check_answer(const Problem& problem) {
  const auto numbers = numbers_of(problem.mentioned);
  std::vector<size_t> answer, needed;
  for (const std::string& name : problem.answer) answer.push_back(numbers.at(name));
  for (size_t i = 0; i < problem.mentioned.size(); ++i) {
    if (problem.needs[numbers.at(problem.query)][i]) needed.push_back(i);
  }
  EXPECT_EQ(std::set<size_t>(answer.begin(), answer.end()), std::set<size_t>(needed.begin(), needed.end()));
  EXPECT_EQ(answer.size(), needed.size()) << "a node twice";
  EXPECT_TRUE(is_valid(problem, answer));
  if (needed.size() <= 8) {
    EXPECT_EQ(answer, first_valid_order(problem, needed));
  }
  return answer.size();
}

// The tokens after <ans> are the targets, each with the number of nodes.
Expected replay(const Words& words, int64_t nodes) {
  Expected expected;
  bool answering = false;
  for (size_t i = 0; i < words.size(); ++i) {
    answering = answering || words[i] == "<ans>";
    if (words[i] == "<end>") answering = false;
    if (answering) {
      expected.ask(words[i + 1], nodes);
    } else {
      expected.none();
    }
  }
  return expected;
}

TEST(Brevo, AsksForDependenciesInOrder) {
  const struct {
    Words more;
    bool single;
    int64_t degree;
  } cases[] = {
      {{"length=64"}, true, 4},
      {{"length=64", "vocab=8", "min_nodes=8"}, true, 4},
      {{"length=30", "nodes=6", "degree=1"}, true, 1},
      {{"length=400", "nodes=30", "min_nodes=20"}, true, 4},
      {{"length=500", "vocab=4", "nodes=12", "name_shortest=2", "name_longest=4"}, false, 4},
  };
  for (const auto& [more, single, degree] : cases) {
    const auto task = make_task(settings(more));
    for (int64_t index = 0; index < 30; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      const Words words = printed_inputs(*task, drawn);
      const Problem problem = read_problem(words, single);
      check_graph(problem, degree);
      const size_t nodes = check_answer(problem);
      expect_example(*task, drawn, static_cast<int64_t>(words.size()), replay(words, static_cast<int64_t>(nodes)));
      const PromptAnswer row = prompt_and_answer(drawn);
      EXPECT_EQ(task->token_name(row.prompt.back()), "<ans>");
      EXPECT_EQ(row.answer.back(), task->end_token());
    }
  }
}

TEST(Brevo, HasBroadAndDeepQuestions) {
  const auto task = make_task(settings({"length=400", "nodes=30", "min_nodes=30"}));
  std::vector<size_t> sizes;
  for (int64_t index = 0; index < 100; ++index) {
    const Words words = printed_inputs(*task, task->example(2, Split::train, index));
    sizes.push_back(read_problem(words, true).answer.size());
  }
  std::sort(sizes.begin(), sizes.end());
  EXPECT_GT(sizes[50], 10u) << "queries ask for few nodes";
  EXPECT_LT(sizes[0], sizes[99]);
}

// The same question in rows of another length is in the same split.
TEST(Brevo, TheSplitDoesNotDependOnTheLength) {
  const auto shorter = make_task(settings({"length=60"})), longer = make_task(settings({"length=70"}));
  for (int64_t index = 0; index < 20; ++index) {
    Example of_shorter = shorter->example(3, Split::test, index), of_longer = longer->example(3, Split::test, index);
    of_shorter.inputs.resize(57);
    of_longer.inputs.resize(57);
    EXPECT_EQ(of_shorter.inputs, of_longer.inputs);
  }
}

TEST(Brevo, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(*make_task(settings({"length=20", "vocab=4", "nodes=4", "degree=1"})));
}

TEST(Brevo, IsTheSameOnEveryMachine) {
  const auto task = make_task(settings({"length=64"}));
  EXPECT_EQ(golden(*task, 5), golden(*task, 5));
  EXPECT_NE(golden(*task, 5), golden(*task, 6));
  EXPECT_EQ(golden(*task, 5), 0x6065e397816265acu);
}

TEST(Brevo, NamesItsTokens) {
  const auto task = make_task(settings({"vocab=16"}));
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 16 + 5);
  EXPECT_EQ(make_task(settings({"vocab=16", "name_longest=3", "nodes=4"}))->vocabulary(), 2 * 16 + 5);
  EXPECT_EQ(task->difficulty_name(), "nodes");
}

TEST(Brevo, RefusesWhatDoesNotFit) {
  // 1 + 2 + 3 + 4 + 4 + 4 + 4 edges of two names, the query, 7 names of the answer, and 4 marks.
  EXPECT_EQ(refusal(settings({"length=55"})),
            "task.length = 55 must be at least 56 for brevo: the longest row with 8 nodes of degree 4 and names of up "
            "to 1 tokens");
  EXPECT_NE(refusal(settings({"vocab=7"})).find("it gives 7 names of 1 to 1 tokens"), std::string::npos);
}

}  // namespace
}  // namespace klab
