// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

std::vector<std::string> settings(const std::vector<std::string>& more) {
  std::vector<std::string> all = {"task.name=cycle_navigation"};
  for (const std::string& one : more)
    all.push_back((one.starts_with("length=") ? "task." : "task.cycle_navigation.") + one);
  return all;
}

// Adds up all moves before taking the remainder.
Expected replay(const std::vector<std::string>& words, int64_t cycle, bool every) {
  const auto moves = std::find(words.begin(), words.end(), "<pad>") - words.begin();
  Expected expected;
  int64_t sum = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(words.size()); ++i) {
    if (i < moves) sum += std::stoll(words[i]);
    if (i < moves && (every || i + 1 == moves)) {
      expected.ask(fmt::format("p{}", ((sum % cycle) + cycle) % cycle), i + 1);
    } else {
      expected.none();
    }
  }
  return expected;
}

TEST(CycleNavigation, AsksForThePosition) {
  for (const int64_t cycle : {2, 5, 7}) {
    for (const int64_t least : {0, 1, 7}) {
      for (const bool every : {false, true}) {
        const auto task =
            make_task(settings({"length=20", fmt::format("cycle={}", cycle), fmt::format("min_length={}", least),
                                fmt::format("targets={}", every ? "every" : "last")}));
        for (int64_t index = 0; index < 20; ++index) {
          const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
          expect_example(*task, drawn, 20, replay(printed_inputs(*task, drawn), cycle, every));
        }
      }
    }
  }
}

TEST(CycleNavigation, DrawsMovesAndLengthsUniformly) {
  const auto task = make_task(settings({"length=12", "min_length=9"}));
  std::map<int64_t, int64_t> lengths;
  std::map<std::string, int64_t> moves;
  for (int64_t index = 0; index < 1200; ++index) {
    const auto words = printed_inputs(*task, task->example(2, Split::train, index));
    ++lengths[std::find(words.begin(), words.end(), "<pad>") - words.begin()];
    for (size_t i = 0; i < 9; ++i) ++moves[words[i]];
  }
  // 300 of each of 4 lengths and 3600 of each of 3 moves, with standard deviations of 15 and 49.
  EXPECT_EQ(lengths.size(), 4u);
  EXPECT_EQ(moves.size(), 3u);
  for (const auto& [length, count] : lengths) EXPECT_NEAR(count, 300, 5 * 15) << length;
  for (const auto& [move, count] : moves) EXPECT_NEAR(count, 3600, 5 * 49) << move;
}

// Short sequences occur in rows of all lengths, and must be in the same split in all of them.
TEST(CycleNavigation, TrainAndTestShareNoSequenceAtDifferentLengths) {
  const auto sequences = [](int64_t length, Split split) {
    const auto task = make_task(settings({fmt::format("length={}", length), "min_length=4"}));
    std::set<std::vector<std::string>> found;
    for (int64_t index = 0; index < 500; ++index) {
      auto words = printed_inputs(*task, task->example(3, split, index));
      words.erase(std::find(words.begin(), words.end(), "<pad>"), words.end());
      found.insert(words);
    }
    return found;
  };
  const auto train = sequences(7, Split::train), test = sequences(9, Split::test);
  size_t short_ones = 0;
  for (const auto& sequence : test) {
    EXPECT_FALSE(train.contains(sequence)) << testing::PrintToString(sequence);
    short_ones += sequence.size() <= 7;
  }
  EXPECT_GT(short_ones, 20u);
}

TEST(CycleNavigation, IsTheSameOnEveryMachine) {
  const auto task = make_task(settings({"length=32", "min_length=3"}));
  EXPECT_EQ(golden(*task, 5), golden(*task, 5));
  EXPECT_NE(golden(*task, 5), golden(*task, 6));
  EXPECT_EQ(golden(*task, 5), 0x007af7fab22f98fdu);
}

TEST(CycleNavigation, HasOneVocabularyForAllLengths) {
  for (const char* least : {"min_length=0", "min_length=3"}) {
    const auto task = make_task(settings({"length=20", least}));
    expect_distinct_names(*task);
    EXPECT_EQ(task->vocabulary(), 3 + 5 + 1);
    EXPECT_EQ(task->token_name(0), "-1");
    EXPECT_EQ(task->token_name(2), "+1");
    EXPECT_EQ(task->difficulty_name(), "moves");
  }
}

TEST(CycleNavigation, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal(settings({"length=6"})),
            "task.length = 6 must be at least 7 for cycle_navigation: fewer than 1000 different sequences cannot be "
            "split into training and test");
  EXPECT_EQ(refusal(settings({"length=20", "min_length=21"})),
            "task.cycle_navigation.min_length = 21 must be 0 (always the full length) or between 1 and task.length = "
            "20");
  EXPECT_NE(refusal(settings({"cycle=1"})).find("task.cycle_navigation.cycle = 1 must be between 2"),
            std::string::npos);
  EXPECT_NE(refusal(settings({"targets=all"})).find("targets = all must be one of"), std::string::npos);
}

}  // namespace
}  // namespace klab
