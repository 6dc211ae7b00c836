// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

const std::vector<std::string> kToy = {"task.name=compression", "task.length=33", "task.vocab=8"};

// Looks up the queried word: the third one for p3.
Expected replay(const std::vector<std::string>& words) {
  std::set<std::string> queried;
  Expected expected;
  for (int64_t i = 0; i < static_cast<int64_t>(words.size()); ++i) {
    if (words[i][0] != 'p') {
      expected.none();
      continue;
    }
    EXPECT_TRUE(queried.insert(words[i]).second) << words[i] << " is queried twice";
    const int64_t place = std::stoll(words[i].substr(1)) - 1;
    expected.ask(words[place], i - place);
  }
  EXPECT_EQ(queried.size(), (words.size() - 1) / 2);
  return expected;
}

TEST(Compression, AsksForEveryPlaceOnce) {
  for (const int64_t length : {5, 6, 33, 64}) {
    const auto task = make_task({"task.name=compression", fmt::format("task.length={}", length), "task.vocab=8"});
    for (int64_t index = 0; index < 20; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      const auto words = printed_inputs(*task, drawn);
      const auto end = std::find(words.begin(), words.end(), "<compress>");
      ASSERT_EQ(end - words.begin(), (length - 1) / 2);
      ASSERT_TRUE(std::all_of(words.begin(), end, [](const std::string& word) { return word[0] == 'x'; }));
      ASSERT_EQ(words.back() == "<pad>", length % 2 == 0);
      expect_example(*task, drawn, length, replay(words));
    }
  }
}

TEST(Compression, AsksInAnyOrder) {
  const auto task = make_task(kToy);
  std::vector<int64_t> first(16, 0);
  for (int64_t index = 0; index < 1600; ++index) {
    const auto words = printed_inputs(*task, task->example(2, Split::train, index));
    ++first[static_cast<size_t>(std::stoll(words[17].substr(1)) - 1)];
  }
  // 100 of each, with a standard deviation of 10.
  for (const int64_t count : first) EXPECT_NEAR(count, 100, 5 * 10);
}

TEST(Compression, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task(kToy), 5), golden(*make_task(kToy), 5));
  EXPECT_NE(golden(*make_task(kToy), 5), golden(*make_task(kToy), 6));
  EXPECT_EQ(golden(*make_task(kToy), 5), 0x9819076c7badab1fu);
}

TEST(Compression, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(*make_task({"task.name=compression", "task.length=5", "task.vocab=8"}));
}

TEST(Compression, NamesItsTokens) {
  const auto task = make_task(kToy);
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 8 + 16 + 2);
  EXPECT_EQ(task->token_name(7), "x7");
  EXPECT_EQ(task->token_name(8), "p1");
  EXPECT_EQ(task->difficulty_name(), "gap");
}

TEST(Compression, RefusesShapesWithoutATarget) {
  EXPECT_EQ(refusal({"task.name=compression", "task.length=4"}),
            "task.length = 4 must be at least 5 for compression: two symbols, <compress>, two positions");
  EXPECT_NE(refusal({"task.name=compression", "task.vocab=1"}).find("task.vocab = 1 must be at least 2"),
            std::string::npos);
}

}  // namespace
}  // namespace klab
