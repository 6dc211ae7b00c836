// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>

#include "tasks/support.h"

namespace klab {
namespace {

const std::vector<std::string> kToy = {"task.name=copy", "task.length=33", "task.vocab=8"};

// From <sep> on, the target is the next word of the copy.
Expected replay(const std::vector<std::string>& words) {
  const auto separator = std::find(words.begin(), words.end(), "<sep>") - words.begin();
  Expected expected;
  for (int64_t i = 0; i < static_cast<int64_t>(words.size()); ++i) {
    const int64_t said = i - separator;
    if (said > 0 && said <= separator) {
      EXPECT_EQ(words[i], words[said - 1]) << "position " << i;
    }
    if (said >= 0 && said < separator) {
      expected.ask(words[said], i - said);
    } else {
      expected.none();
    }
  }
  return expected;
}

TEST(Copy, AsksForEverySymbolInOrder) {
  for (const int64_t length : {5, 6, 33, 64, 257}) {
    const auto task = make_task({"task.name=copy", fmt::format("task.length={}", length), "task.vocab=8"});
    for (int64_t index = 0; index < 20; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      const auto words = printed_inputs(*task, drawn);
      ASSERT_EQ(words[(length - 1) / 2], "<sep>");
      ASSERT_EQ(words.back() == "<pad>", length % 2 == 0);
      expect_example(*task, drawn, length, replay(words));
    }
  }
}

TEST(Copy, AsksForOneSmallExampleAsWritten) {
  const auto task = make_task({"task.name=copy", "task.length=6", "task.vocab=100"});
  const Example drawn = task->example(1, Split::train, 0);
  const auto words = printed_inputs(*task, drawn);
  EXPECT_EQ(words, (std::vector<std::string>{words[0], words[1], "<sep>", words[0], words[1], "<pad>"}));
  EXPECT_EQ(printed_labels(*task, drawn), (std::vector<std::string>{"", "", words[0], words[1], "", ""}));
  EXPECT_EQ(drawn.difficulty, (std::vector<int64_t>{-1, -1, 2, 2, -1, -1}));
  EXPECT_EQ(task->difficulty_name(), "gap");
}

TEST(Copy, DrawsEverySymbol) { expect_every_symbol(*make_task(kToy)); }

TEST(Copy, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task(kToy), 5), golden(*make_task(kToy), 5));
  EXPECT_NE(golden(*make_task(kToy), 5), golden(*make_task(kToy), 6));
  EXPECT_EQ(golden(*make_task(kToy), 5), 0x71d2f2c3cd15cb13u);
}

TEST(Copy, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(*make_task({"task.name=copy", "task.length=9", "task.vocab=3"}));
}

TEST(Copy, NamesItsTokens) {
  const auto task = make_task(kToy);
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 8 + 2);
  EXPECT_EQ(task->token_name(7), "x7");
}

TEST(Copy, RefusesShapesWithoutATarget) {
  EXPECT_EQ(refusal({"task.name=copy", "task.length=4"}),
            "task.length = 4 must be at least 5 for copy: two symbols, <sep>, two symbols");
  EXPECT_EQ(refusal({"task.name=copy", "task.vocab=1"}),
            "task.vocab = 1 must be at least 2 for copy: with one symbol every sequence is the same");
}

}  // namespace
}  // namespace klab
