// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "tasks/support.h"

namespace klab {
namespace {

const std::vector<std::string> kToy = {"task.name=stack", "task.length=64", "task.vocab=16", "task.stack.stacks=4"};

// Stacks by name, with (element, position of the push).
using Machine = std::map<std::string, std::vector<std::pair<std::string, int64_t>>>;

// Counts for the distribution test.
struct Tally {
  int64_t choices = 0, pops = 0;  // operations while a stack was not empty, and the pops among them
  // Sums over pops of the popped stack's relative rank among the non-empty ones, in (0, 1): by name, and by the time
  // since it became non-empty.
  double rank = 0, age_rank = 0;
};

void replay_pop(const std::vector<std::string>& words, int64_t at, Machine& machine, Expected& expected, Tally& tally) {
  auto found = machine.find(words[at + 1]);
  ASSERT_NE(found, machine.end()) << "pop of an empty stack at " << at;
  const auto [element, pushed_at] = found->second.back();
  EXPECT_EQ(words[at + 2], element) << "the popped element is an input";
  ++tally.pops;
  const auto filled = static_cast<double>(machine.size());
  tally.rank += (static_cast<double>(std::distance(machine.begin(), found)) + 0.5) / filled;
  const auto filled_earlier = std::count_if(machine.begin(), machine.end(), [&](const auto& stack) {
    return stack.second.front().second < found->second.front().second;
  });
  tally.age_rank += (static_cast<double>(filled_earlier) + 0.5) / filled;
  found->second.pop_back();
  if (found->second.empty()) machine.erase(found);
  expected.none();
  expected.ask(element, at + 1 - pushed_at);
  expected.none();
}

Expected replay(const std::vector<std::string>& words, Tally& tally) {
  Machine machine;
  Expected expected;
  int64_t at = 0;
  for (; at + 2 < static_cast<int64_t>(words.size()); at += 3) {
    EXPECT_EQ(words[at + 1][0], 's');
    EXPECT_EQ(words[at + 2][0], 'e');
    tally.choices += !machine.empty();
    if (words[at] == "<pop>") {
      replay_pop(words, at, machine, expected, tally);
    } else {
      EXPECT_EQ(words[at], "<push>");
      machine[words[at + 1]].emplace_back(words[at + 2], at + 2);
      for (int i = 0; i < 3; ++i) expected.none();
    }
  }
  for (; at < static_cast<int64_t>(words.size()); ++at) {
    EXPECT_EQ(words[at], "<pad>");
    expected.none();
  }
  return expected;
}

TEST(Stack, AsksAtTheIdOfEachPop) {
  for (const int64_t length : {6, 7, 8, 64, 300}) {
    for (const double pop : {1e-9, 0.5, 1.0}) {
      const auto task = make_task({"task.name=stack", fmt::format("task.length={}", length), "task.vocab=16",
                                   "task.stack.stacks=4", fmt::format("task.stack.pop_probability={}", pop)});
      for (int64_t index = 0; index < 20; ++index) {
        const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
        Tally tally;
        expect_example(*task, drawn, length, replay(printed_inputs(*task, drawn), tally));
        EXPECT_GE(tally.pops, 1);
        if (pop == 1.0) {
          EXPECT_EQ(tally.pops, length / 3 / 2);
        }
        if (pop < 0.1) {
          EXPECT_EQ(tally.pops, 1) << "only the last operation, so that there is a target";
        }
      }
    }
  }
}

TEST(Stack, PopsWithTheGivenProbabilityFromAnyFilledStack) {
  for (const double pop : {0.3, 0.5}) {
    const auto task = make_task({"task.name=stack", "task.length=300", "task.vocab=16", "task.stack.stacks=9",
                                 fmt::format("task.stack.pop_probability={}", pop)});
    Tally tally;
    for (int64_t index = 0; index < 200; ++index) {
      replay(printed_inputs(*task, task->example(8, Split::train, index)), tally);
    }
    const double choices = static_cast<double>(tally.choices), pops = static_cast<double>(tally.pops);
    EXPECT_GT(choices, 15000);
    EXPECT_NEAR(pops / choices, pop, 5 * std::sqrt(pop * (1 - pop) / choices));
    // A uniform rank has the variance 1/12.
    EXPECT_NEAR(tally.rank / pops, 0.5, 5 * std::sqrt(1.0 / 12 / pops));
    EXPECT_NEAR(tally.age_rank / pops, 0.5, 5 * std::sqrt(1.0 / 12 / pops));
  }
}

TEST(Stack, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task(kToy), 5), golden(*make_task(kToy), 5));
  EXPECT_NE(golden(*make_task(kToy), 5), golden(*make_task(kToy), 6));
  EXPECT_EQ(golden(*make_task(kToy), 5), 0x83b5aaac994c8cd3u);
}

TEST(Stack, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(*make_task({"task.name=stack", "task.length=9", "task.vocab=2", "task.stack.stacks=2"}));
}

TEST(Stack, NamesItsTokens) {
  const auto task = make_task(kToy);
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 16 + 4 + 3);
  EXPECT_EQ(task->token_name(5), "e5");
  EXPECT_EQ(task->token_name(16 + 3), "s3");
  EXPECT_EQ(task->difficulty_name(), "gap");
}

TEST(Stack, RefusesShapesWithoutATarget) {
  EXPECT_EQ(refusal({"task.name=stack", "task.length=5"}),
            "task.length = 5 must be at least 6 for stack: one push and one pop of three tokens");
  EXPECT_NE(refusal({"task.name=stack", "task.vocab=1"}).find("task.vocab = 1 must be at least 2"), std::string::npos);
  EXPECT_NE(refusal({"task.name=stack", "task.stack.stacks=0"}).find("task.stack.stacks = 0 must be between 1"),
            std::string::npos);
  for (const char* value : {"0", "-0.5", "1.5"}) {
    EXPECT_NE(refusal({"task.name=stack", fmt::format("task.stack.pop_probability={}", value)})
                  .find(fmt::format("task.stack.pop_probability = {} must be above 0", value)),
              std::string::npos);
  }
}

}  // namespace
}  // namespace klab
