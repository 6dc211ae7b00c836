// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>

#include "tasks/support.h"

namespace klab {
namespace {

const std::vector<std::string> kToy = {"task.name=palindrome", "task.length=33", "task.vocab=8"};

// Mirrors the words before <sep>.
Expected replay(const std::vector<std::string>& words) {
  const auto separator = std::find(words.begin(), words.end(), "<sep>") - words.begin();
  Expected expected;
  for (int64_t i = 0; i < static_cast<int64_t>(words.size()); ++i) {
    const int64_t mirrored = 2 * separator - i;
    if (i > separator && mirrored > 0) {
      EXPECT_EQ(words[i], words[mirrored]) << "position " << i;
      expected.ask(words[mirrored - 1], i - (mirrored - 1));
    } else {
      expected.none();
    }
  }
  return expected;
}

int64_t targets(const Example& example) {
  return std::count_if(example.labels.begin(), example.labels.end(), [](int64_t id) { return id != kNoTarget; });
}

TEST(Palindrome, MirrorsAndAsksOnlyInTheSecondHalf) {
  for (const int64_t length : {5, 6, 33, 64, 257}) {
    const auto task = make_task({"task.name=palindrome", fmt::format("task.length={}", length), "task.vocab=8"});
    for (int64_t index = 0; index < 20; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      std::vector<std::string> words = printed_inputs(*task, drawn);
      ASSERT_EQ(words[(length - 1) / 2], "<sep>");
      ASSERT_EQ(words[length - 1] == "<pad>", length % 2 == 0);
      ASSERT_EQ(words.back() == "<pad>", length % 2 == 0);
      expect_example(*task, drawn, length, replay(words));
      EXPECT_EQ(targets(drawn), (length - 1) / 2 - 1);
    }
  }
}

TEST(Palindrome, AsksForOneSmallExampleAsWritten) {
  const auto task = make_task({"task.name=palindrome", "task.length=7", "task.vocab=100"});
  const Example drawn = task->example(1, Split::train, 0);
  const auto words = printed_inputs(*task, drawn);
  EXPECT_EQ(words, (std::vector<std::string>{words[0], words[1], words[2], "<sep>", words[2], words[1], words[0]}));
  EXPECT_EQ(printed_labels(*task, drawn), (std::vector<std::string>{"", "", "", "", words[1], words[0], ""}));
  EXPECT_EQ(drawn.difficulty, (std::vector<int64_t>{-1, -1, -1, -1, 3, 5, -1}));
  EXPECT_EQ(task->difficulty_name(), "gap");
}

TEST(Palindrome, DrawsEverySymbol) { expect_every_symbol(*make_task(kToy)); }

TEST(Palindrome, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task(kToy), 5), golden(*make_task(kToy), 5));
  EXPECT_NE(golden(*make_task(kToy), 5), golden(*make_task(kToy), 6));
  EXPECT_EQ(golden(*make_task(kToy), 5), 0x583a21ee9f5f8f56u);
}

TEST(Palindrome, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(*make_task({"task.name=palindrome", "task.length=9", "task.vocab=3"}));
}

TEST(Palindrome, NamesItsTokens) {
  const auto task = make_task(kToy);
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 8 + 2);
  EXPECT_EQ(task->token_name(7), "x7");
}

TEST(Palindrome, RefusesShapesWithoutATarget) {
  EXPECT_EQ(refusal({"task.name=palindrome", "task.length=4"}),
            "task.length = 4 must be at least 5 for palindrome: two symbols, <sep>, two symbols");
  EXPECT_EQ(refusal({"task.name=palindrome", "task.vocab=1"}),
            "task.vocab = 1 must be at least 2 for palindrome: with one symbol every sequence is the same");
}

}  // namespace
}  // namespace klab
