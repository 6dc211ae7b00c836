// SPDX-License-Identifier: Apache-2.0
#include "tasks/question.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tasks/prompt_answer.h"
#include "tasks/support.h"

namespace klab {
namespace {

using Words = std::vector<std::string>;

const Words kKinds = {"copy", "palindrome", "addition", "state_tracking"};

Words settings_of(const std::string& kind, int64_t smallest, int64_t largest, const Words& more = {}) {
  Words all{"task.name=question", "task.question.kind=" + kind, fmt::format("task.question.smallest={}", smallest),
            fmt::format("task.question.largest={}", largest)};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::string text_of(const Words& digits) {
  std::string text;
  for (const std::string& digit : digits) text += digit;
  return text;
}

// The words of a question between `from` and `to`, which are digits.
Words digits_between(const Words& words, size_t from, size_t to) {
  Words digits(words.begin() + static_cast<int64_t>(from), words.begin() + static_cast<int64_t>(to));
  for (const std::string& digit : digits) EXPECT_TRUE(digit.size() == 1 && digit[0] >= '0' && digit[0] <= '9') << digit;
  return digits;
}

size_t place_of(const Words& words, const std::string& word) {
  return static_cast<size_t>(std::find(words.begin(), words.end(), word) - words.begin());
}

std::string added(const std::string& left, const std::string& right) {
  for (const std::string& number : {left, right}) {
    EXPECT_TRUE(number.size() == 1 || number[0] != '0') << "a leading zero: " << number;
  }
  return std::to_string(std::stoull(left) + std::stoull(right));
}

// The running products of permutations of three points, each given by its place among them in lexicographic order.
Words multiplied(const Words& factors) {
  const Words permutations = {"123", "132", "213", "231", "312", "321"};
  Words products;
  std::string product = "123";
  for (const std::string& factor : factors) {
    const std::string& by = permutations.at(std::stoull(factor));
    for (char& image : product) image = by[static_cast<size_t>(image - '1')];
    products.push_back(std::to_string(place_of(permutations, product)));
  }
  return products;
}

struct Solved {
  Words answer;  // without <end>
  int64_t size = 0;
};

// The answer to a question, whose words end with =.
Solved solve(const Words& question) {
  const size_t equals = question.size() - 1, plus = place_of(question, "+");
  if (plus < equals) {
    const std::string left = text_of(digits_between(question, 0, plus)),
                      right = text_of(digits_between(question, plus + 1, equals));
    Words sum;
    for (const char digit : added(left, right)) sum.emplace_back(1, digit);
    return {sum, static_cast<int64_t>(std::max(left.size(), right.size()))};
  }
  Words symbols = digits_between(question, 1, equals);
  const auto size = static_cast<int64_t>(symbols.size());
  if (question[0] == "product") return {multiplied(symbols), size};
  if (question[0] == "reverse") {
    std::reverse(symbols.begin(), symbols.end());
  } else {
    EXPECT_EQ(question[0], "copy");
  }
  return {symbols, size};
}

// The words up to =.
Words question_of(const Words& words) {
  return {words.begin(), words.begin() + static_cast<int64_t>(place_of(words, "=")) + 1};
}

Expected replay(const Words& words, bool lowest_first) {
  const Words question = question_of(words);
  Solved solved = solve(question);
  if (lowest_first) std::reverse(solved.answer.begin(), solved.answer.end());
  solved.answer.emplace_back("<end>");
  Expected expected;
  for (size_t i = 1; i < question.size(); ++i) expected.none();
  for (const std::string& word : solved.answer) expected.ask(word, solved.size);
  while (expected.labels.size() < words.size()) expected.none();
  Words all = question;
  all.insert(all.end(), solved.answer.begin(), solved.answer.end());
  all.resize(words.size(), "<pad>");
  EXPECT_EQ(words, all);
  return expected;
}

TEST(Question, AsksForTheAnswer) {
  for (const std::string& kind : kKinds) {
    for (const int64_t largest : {3, 9, 17}) {
      for (const Split split : {Split::train, Split::test, Split::validation}) {
        const auto task = make_task(settings_of(kind, 2, largest));
        for (int64_t index = 0; index < 50; ++index) {
          const Example drawn = task->example(1, split, index);
          expect_example(*task, drawn, 64, replay(printed_inputs(*task, drawn), false));
        }
      }
    }
  }
}

TEST(Question, WritesSumsInBothOrders) {
  const auto task = make_task(settings_of("addition", 1, 8, {"task.question.result_order=lowest_first"}));
  for (int64_t index = 0; index < 100; ++index) {
    const Example drawn = task->example(1, Split::train, index);
    expect_example(*task, drawn, 64, replay(printed_inputs(*task, drawn), true));
  }
}

TEST(Question, AddsNumbersOfAnyLength) {
  const auto task = make_task(settings_of("addition", 38, 40, {"task.length=124"}));
  const auto modulo = [](const std::string& number, uint64_t prime) {
    uint64_t rest = 0;
    for (const char digit : number) rest = (10 * rest + static_cast<uint64_t>(digit - '0')) % prime;
    return rest;
  };
  for (int64_t index = 0; index < 50; ++index) {
    const Words words = printed_inputs(*task, task->example(1, Split::train, index));
    const size_t plus = place_of(words, "+"), equals = place_of(words, "="), end = place_of(words, "<end>");
    const std::string left = text_of(digits_between(words, 0, plus)),
                      right = text_of(digits_between(words, plus + 1, equals)),
                      sum = text_of(digits_between(words, equals + 1, end));
    EXPECT_NE(sum[0], '0');
    EXPECT_LE(sum.size(), std::max(left.size(), right.size()) + 1);
    for (const uint64_t prime : {1000000007u, 998244353u, 4294967291u}) {
      EXPECT_EQ((modulo(left, prime) + modulo(right, prime)) % prime, modulo(sum, prime)) << left << " + " << right;
    }
  }
}

TEST(Question, ParityCountsOnes) {
  const auto task = make_task(settings_of("state_tracking", 8, 12, {"task.question.group=parity"}));
  for (int64_t index = 0; index < 50; ++index) {
    const Words words = printed_inputs(*task, task->example(1, Split::train, index));
    const size_t equals = place_of(words, "=");
    int64_t ones = 0;
    for (size_t i = 1; i < equals; ++i) {
      ones += words[i] == "1";
      EXPECT_EQ(words[equals + i], std::to_string(ones % 2));
    }
    EXPECT_EQ(words[2 * equals], "<end>");
  }
}

TEST(Question, SizesAreUniform) {
  for (const std::string& kind : kKinds) {
    const auto task = make_task(settings_of(kind, 3, 6));
    std::map<int64_t, int64_t> sizes;
    for (int64_t index = 0; index < 800; ++index) {
      const Words words = printed_inputs(*task, task->example(2, Split::train, index));
      const auto before = static_cast<int64_t>(place_of(words, kind == "addition" ? "+" : "="));
      ++sizes[kind == "addition" ? before : before - 1];
    }
    EXPECT_EQ(sizes.begin()->first, 3) << kind;
    EXPECT_EQ(sizes.rbegin()->first, 6) << kind;
    // 200 of each, with a standard deviation of 12.
    for (const auto& [size, count] : sizes) EXPECT_NEAR(count, 200, 5 * 12) << kind << " " << size;
  }
}

TEST(Question, OperandsHaveSizesOfTheirOwn) {
  const auto task = make_task(settings_of("addition", 1, 3));
  std::map<std::pair<size_t, size_t>, int64_t> sizes;
  std::set<std::string> first, single;
  for (int64_t index = 0; index < 1800; ++index) {
    const Words words = question_of(printed_inputs(*task, task->example(2, Split::train, index)));
    const size_t left = place_of(words, "+"), right = words.size() - left - 2;
    ++sizes[{left, right}];
    (left == 1 ? single : first).insert(words[0]);
  }
  EXPECT_EQ(sizes.size(), 9u);
  // 200 of each, with a standard deviation of 13.
  for (const auto& [size, count] : sizes) EXPECT_NEAR(count, 200, 5 * 13) << size.first << " " << size.second;
  EXPECT_EQ(single.size(), 10u);
  EXPECT_EQ(first.size(), 9u);
  EXPECT_FALSE(first.contains("0"));
}

TEST(Question, SplitsShareNoQuestionAtAnyLength) {
  for (const std::string& kind : kKinds) {
    const int64_t largest = kind == "addition" ? 1 : kind == "state_tracking" ? 3 : 2;
    std::map<std::vector<int64_t>, Split> seen;
    for (const char* length : {"task.length=9", "task.length=30"}) {
      const auto task = make_task(settings_of(kind, 1, largest, {length}));
      expect_disjoint_splits(*task);
      for (const Split split : {Split::train, Split::test, Split::validation}) {
        for (int64_t index = 0; index < 300; ++index) {
          const auto question = prompt_and_answer(task->example(7, split, index)).prompt;
          EXPECT_EQ(seen.emplace(question, split).first->second, split) << kind;
        }
      }
    }
  }
}

TEST(Question, IsTheSameOnEveryMachine) {
  const std::map<std::string, uint64_t> known = {{"copy", 0x81a1e9cefb8d7e07u},
                                                 {"palindrome", 0xbaa69cffe92368e1u},
                                                 {"addition", 0xbff455cd3372c861u},
                                                 {"state_tracking", 0x0d1a1c6f2f65a22eu}};
  for (const std::string& kind : kKinds) {
    const auto task = make_task(settings_of(kind, 1, 6));
    EXPECT_EQ(golden(*task, 5), known.at(kind)) << kind;
    EXPECT_NE(golden(*task, 5), golden(*task, 6));
  }
}

TEST(Question, KindsHaveOneVocabulary) {
  const auto copy = make_task(settings_of("copy", 1, 5));
  for (const std::string& kind : kKinds) {
    const auto task = make_task(settings_of(kind, 1, 5, {"task.vocab=3"}));
    expect_distinct_names(*task);
    ASSERT_EQ(task->vocabulary(), 17);
    for (int64_t id = 0; id < 17; ++id) EXPECT_EQ(task->token_name(id), copy->token_name(id));
    EXPECT_EQ(task->difficulty_name(), "size");
    EXPECT_EQ(task->token_name(task->end_token().value()), "<end>");
  }
}

TEST(Question, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal(settings_of("copy", 1, 5, {"task.length=12"})),
            "task.length = 12 must be at least 13: the longest question of kind copy with task.question.largest = 5");
  EXPECT_NE(refusal(settings_of("addition", 1, 5, {"task.length=18"})).find("must be at least 19"), std::string::npos);
  EXPECT_NE(refusal(settings_of("state_tracking", 1, 9, {"task.length=20"})).find("must be at least 21"),
            std::string::npos);
  EXPECT_EQ(refusal(settings_of("copy", 6, 5)), "task.question.smallest = 6 must be at most task.question.largest = 5");
  EXPECT_EQ(
      refusal(settings_of("copy", 1, 1)),
      "task.question.largest = 1 must be larger: there are only 10 different questions, and fewer than 100 cannot "
      "be split into training, validation and test");
  EXPECT_NE(refusal(settings_of("state_tracking", 1, 5, {"task.question.group=parity"})).find("only 62 different"),
            std::string::npos);
  EXPECT_EQ(refusal(settings_of("state_tracking", 1, 5, {"task.question.group=s5"})),
            "task.question.group = s5 must be one of parity, s3: the groups of at most 10 elements, which are written "
            "as digits");
  EXPECT_NE(refusal(settings_of("copy", 0, 5)).find("task.question.smallest = 0 must be between 1"), std::string::npos);
  EXPECT_NE(refusal(settings_of("sort", 1, 5)).find("kind = sort must be one of"), std::string::npos);
}

// The longest questions fill the row.
TEST(Question, FillsTheShortestLength) {
  const std::map<std::string, int64_t> shortest = {
      {"copy", 13}, {"palindrome", 13}, {"addition", 19}, {"state_tracking", 13}};
  for (const auto& [kind, length] : shortest) {
    const auto task = make_task(settings_of(kind, 5, 5, {fmt::format("task.length={}", length)}));
    std::set<std::string> last;
    for (int64_t index = 0; index < 50; ++index) {
      const Example drawn = task->example(1, Split::train, index);
      expect_example(*task, drawn, length, replay(printed_inputs(*task, drawn), false));
      last.insert(printed_inputs(*task, drawn).back());
    }
    EXPECT_TRUE(last.contains("<end>")) << kind;
  }
}

}  // namespace
}  // namespace klab
