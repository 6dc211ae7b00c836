// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

using Words = std::vector<std::string>;

Words settings(int64_t length, int64_t kinds, int64_t depth, double open = 0.5) {
  return {"task.name=dyck", fmt::format("task.length={}", length), fmt::format("task.dyck.kinds={}", kinds),
          fmt::format("task.dyck.depth={}", depth), fmt::format("task.dyck.open={}", open)};
}

// What is left of the first `count` brackets after pairs "(k k)" that stand side by side are removed, again and again.
Words unmatched(const Words& words, size_t count) {
  Words left(words.begin(), words.begin() + static_cast<int64_t>(count));
  for (bool removed = true; removed;) {
    removed = false;
    for (size_t i = 0; i + 1 < left.size(); ++i) {
      if (left[i][0] != '(' || left[i].substr(1) + ")" != left[i + 1]) continue;
      left.erase(left.begin() + static_cast<int64_t>(i), left.begin() + static_cast<int64_t>(i) + 2);
      removed = true;
      break;
    }
  }
  return left;
}

Expected replay(const Words& words, int64_t depth) {
  Expected expected;
  for (size_t i = 1; i <= words.size(); ++i) {
    const Words open = unmatched(words, i);
    EXPECT_LE(static_cast<int64_t>(open.size()), depth);
    for (const std::string& bracket : open) EXPECT_EQ(bracket[0], '(') << "closes what is not open";
    expected.ask(open.empty() ? "<none>" : open.back().substr(1) + ")", static_cast<int64_t>(open.size()));
  }
  return expected;
}

TEST(Dyck, AsksForTheBracketThatClosesTheInnermost) {
  const int64_t shapes[][2] = {{1, 2}, {2, 1}, {2, 3}, {5, 8}};
  for (const auto& [kinds, depth] : shapes) {
    const auto task = make_task(settings(60, kinds, depth));
    for (int64_t index = 0; index < 20; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      expect_example(*task, drawn, 60, replay(printed_inputs(*task, drawn), depth));
    }
  }
}

TEST(Dyck, OpensBracketsWithTheirProbability) {
  const auto task = make_task(settings(200, 4, 1000, 0.7));
  std::map<std::string, int64_t> opened;
  int64_t free = 0, count = 0;
  for (int64_t index = 0; index < 50; ++index) {
    const Example drawn = task->example(2, Split::train, index);
    const Words words = printed_inputs(*task, drawn);
    for (size_t i = 1; i < words.size(); ++i) {
      if (drawn.difficulty[i - 1] == 0) continue;  // only an opening bracket may follow
      ++free;
      if (words[i][0] == '(') ++opened[words[i]], ++count;
    }
  }
  const auto draws = static_cast<double>(free);
  EXPECT_NEAR(static_cast<double>(count), 0.7 * draws, 5 * std::sqrt(draws * 0.7 * 0.3));
  EXPECT_EQ(opened.size(), 4u);
  for (const auto& [word, of_kind] : opened) {
    EXPECT_NEAR(of_kind, static_cast<double>(count) / 4, 5 * std::sqrt(static_cast<double>(count) * 3 / 16)) << word;
  }
}

// How many sequences there are, by trying both brackets at each position.
int64_t count(int64_t length, int64_t kinds, int64_t depth, int64_t open) {
  if (length == 0) return 1;
  int64_t sequences = open < depth ? kinds * count(length - 1, kinds, depth, open + 1) : 0;
  if (open > 0) sequences += count(length - 1, kinds, depth, open - 1);
  return sequences;
}

TEST(Dyck, NeedsAThousandSequences) {
  const int64_t shapes[][2] = {{1, 2}, {1, 5}, {2, 1}, {2, 3}, {7, 4}};
  for (const auto& [kinds, depth] : shapes) {
    int64_t length = 1;
    while (count(length, kinds, depth, 0) < 1000) ++length;
    make_task(settings(length, kinds, depth));
    EXPECT_EQ(refusal(settings(length - 1, kinds, depth)),
              fmt::format("task.length = {} must be at least {} for dyck with {} kinds and depth {}: fewer than 1000 "
                          "different sequences cannot be split into training and test",
                          length - 1, length, kinds, depth));
  }
  EXPECT_EQ(refusal(settings(64, 1, 1)),
            "task.dyck.depth = 1 must be at least 2 with task.dyck.kinds = 1: there is only one such sequence");
}

TEST(Dyck, TrainAndTestShareNoSequence) {
  const auto task = make_task(settings(8, 2, 8));
  std::set<std::vector<int64_t>> train, test;
  for (int64_t index = 0; index < 400; ++index) {
    train.insert(task->example(0, Split::train, index).inputs);
    test.insert(task->example(1, Split::test, index).inputs);
  }
  for (const auto& sequence : test) EXPECT_FALSE(train.contains(sequence));
  EXPECT_GT(test.size(), 20u);
  EXPECT_LT(test.size(), 400u) << "the task is too large for this test";
}

TEST(Dyck, IsTheSameOnEveryMachine) {
  const auto task = make_task(settings(64, 3, 6));
  EXPECT_EQ(golden(*task, 5), golden(*task, 5));
  EXPECT_NE(golden(*task, 5), golden(*task, 6));
  EXPECT_EQ(golden(*task, 5), 0xa10877c170883b14u);
}

TEST(Dyck, NamesItsTokens) {
  const auto task = make_task(settings(64, 3, 6));
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 3 + 3 + 1);
  EXPECT_EQ(task->token_name(1), "(1");
  EXPECT_EQ(task->token_name(3 + 1), "1)");
  EXPECT_EQ(task->difficulty_name(), "depth");
}

}  // namespace
}  // namespace klab
