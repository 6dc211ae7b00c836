// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

using Words = std::vector<std::string>;

Words settings(const Words& more) {
  Words all = {"task.name=phonebook"};
  for (const std::string& one : more) {
    all.push_back((one.starts_with("length=") || one.starts_with("vocab=") ? "task." : "task.phonebook.") + one);
  }
  return all;
}

struct Entry {
  Words digits;
  int64_t position;  // of the first digit
};

std::map<std::string, Entry> read_book(const Words& words, size_t digits) {
  std::map<std::string, Entry> book;
  for (size_t at = 0; words.at(at) != "<sep>"; at += 1 + digits) {
    const auto first = words.begin() + static_cast<int64_t>(at) + 1;
    const Entry entry{{first, first + static_cast<int64_t>(digits)}, static_cast<int64_t>(at) + 1};
    EXPECT_EQ(words[at][0], 'n');
    EXPECT_TRUE(book.emplace(words[at], entry).second) << "a name twice";
  }
  return book;
}

// Looks every query up in the book.
Expected replay(const Words& words, size_t digits, size_t queries) {
  const auto book = read_book(words, digits);
  std::set<std::string> queried;
  Expected expected;
  size_t at = book.size() * (1 + digits) + 1;
  while (expected.labels.size() < at) expected.none();
  while (at < words.size() && words[at] != "<pad>") {
    EXPECT_TRUE(queried.insert(words[at]).second) << "queried twice";
    const Entry& entry = book.at(words[at]);
    for (size_t i = 0; i < digits; ++i, ++at) {
      expected.ask(entry.digits[i], static_cast<int64_t>(at) - (entry.position + static_cast<int64_t>(i)));
      EXPECT_EQ(words.at(at + 1), entry.digits[i]) << "the number is an input";
    }
    expected.none();
    ++at;
  }
  EXPECT_EQ(queried.size(), queries);
  while (expected.labels.size() < words.size()) expected.none();
  return expected;
}

TEST(Phonebook, AsksForTheNumbers) {
  const struct {
    Words more;
    size_t digits, queries;
  } cases[] = {{{"length=64"}, 4, 4},
               {{"length=5", "digits=1", "queries=1"}, 1, 1},
               {{"length=100", "digits=7", "queries=3", "entries=5"}, 7, 3},
               {{"length=300", "queries=1"}, 4, 1}};
  for (const auto& [more, digits, queries] : cases) {
    const auto task = make_task(settings(more));
    for (int64_t index = 0; index < 20; ++index) {
      const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
      const Words words = printed_inputs(*task, drawn);
      expect_example(*task, drawn, static_cast<int64_t>(words.size()), replay(words, digits, queries));
    }
  }
}

TEST(Phonebook, FillsTheLengthWithEntries) {
  const auto size_of_book = [](const Words& more) {
    const auto task = make_task(settings(more));
    return read_book(printed_inputs(*task, task->example(1, Split::train, 0)), 4).size();
  };
  EXPECT_EQ(size_of_book({"length=64"}), 8u);
  EXPECT_EQ(size_of_book({"length=66"}), 9u);
  EXPECT_EQ(size_of_book({"length=66", "entries=5"}), 5u);
}

TEST(Phonebook, DrawsNamesDigitsAndQueriesUniformly) {
  const auto task = make_task(settings({"length=45", "vocab=10", "queries=1", "digits=3"}));
  std::map<std::string, int64_t> names, digits;
  std::map<int64_t, int64_t> gaps;
  for (int64_t index = 0; index < 400; ++index) {
    const Example drawn = task->example(2, Split::train, index);
    const auto book = read_book(printed_inputs(*task, drawn), 3);
    ASSERT_EQ(book.size(), 10u);
    ++names[printed_inputs(*task, drawn)[0]];
    for (const auto& [name, entry] : book) {
      for (const std::string& digit : entry.digits) ++digits[digit];
    }
    for (const int64_t gap : drawn.difficulty) {
      if (gap >= 0) ++gaps[gap];
    }
  }
  // 40 first names of each, 1200 digits of each, and 120 targets in each of 10 entries.
  EXPECT_EQ(names.size(), 10u);
  for (const auto& [name, count] : names) EXPECT_NEAR(count, 40, 5 * 6) << name;
  EXPECT_EQ(digits.size(), 10u);
  for (const auto& [digit, count] : digits) EXPECT_NEAR(count, 1200, 5 * 33) << digit;
  EXPECT_EQ(gaps.size(), 10u);
  for (const auto& [gap, count] : gaps) EXPECT_NEAR(count, 120, 5 * 3 * 6) << gap;
}

TEST(Phonebook, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(*make_task(settings({"length=5", "vocab=3", "digits=1", "queries=1"})));
}

TEST(Phonebook, IsTheSameOnEveryMachine) {
  const auto task = make_task(settings({"length=64"}));
  EXPECT_EQ(golden(*task, 5), golden(*task, 5));
  EXPECT_NE(golden(*task, 5), golden(*task, 6));
  EXPECT_EQ(golden(*task, 5), 0x5bc3babf3a4e8825u);
}

TEST(Phonebook, NamesItsTokens) {
  const auto task = make_task(settings({"vocab=8"}));
  expect_distinct_names(*task);
  EXPECT_EQ(task->vocabulary(), 8 + 10 + 2);
  EXPECT_EQ(task->token_name(7), "n7");
  EXPECT_EQ(task->token_name(8 + 3), "3");
  EXPECT_EQ(task->difficulty_name(), "gap");
}

TEST(Phonebook, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal(settings({"length=40"})),
            "task.length = 40 must be at least 41 for phonebook: 4 entries, <sep> and 4 queries of 5 tokens each");
  EXPECT_EQ(refusal(settings({"length=64", "entries=9"})),
            "task.length = 64 must be at least 66 for phonebook: 9 entries, <sep> and 4 queries of 5 tokens each");
  EXPECT_EQ(refusal(settings({"length=64", "entries=3"})),
            "task.phonebook.queries = 4 must be at most task.phonebook.entries = 3: every name is queried once at "
            "most");
  EXPECT_EQ(refusal(settings({"length=64", "vocab=7"})),
            "task.vocab = 7 must be at least 8 for phonebook: each entry has a name of its own");
}

}  // namespace
}  // namespace klab
