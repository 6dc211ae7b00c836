// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

const std::vector<std::string> kInContext = {"task.name=in_context_recall", "task.length=64", "task.vocab=16"};
const std::vector<std::string> kFuzzy = {"task.name=fuzzy_recall", "task.length=64", "task.vocab=8"};
const std::vector<std::string> kNoisy = {"task.name=noisy_recall", "task.length=64", "task.vocab=16"};

// A key with its value, or a stretch of noise or padding.
struct Stretch {
  std::string key;                 // its symbols, separated by spaces; "" for noise and padding
  int64_t last_key_token = 0;      // position of the key's last token
  std::vector<std::string> value;  // for noise and padding: the tokens
  bool is_pair() const { return !key.empty(); }
};

// A key is a run of k's, its value the following run of v's.
std::vector<Stretch> stretches(const std::vector<std::string>& words) {
  std::vector<Stretch> all;
  size_t at = 0;
  while (at < words.size()) {
    Stretch stretch;
    std::set<std::string> symbols;
    for (; at < words.size() && words[at][0] == 'k'; ++at) {
      EXPECT_TRUE(symbols.insert(words[at]).second) << words[at] << " is twice in a key";
      stretch.key += words[at] + " ";
      stretch.last_key_token = static_cast<int64_t>(at);
    }
    if (!stretch.is_pair()) stretch.value.push_back(words[at++]);
    for (; stretch.is_pair() && at < words.size() && words[at][0] == 'v'; ++at) {
      EXPECT_TRUE(symbols.insert(words[at]).second) << words[at] << " is twice in a value";
      stretch.value.push_back(words[at]);
    }
    EXPECT_FALSE(stretch.value.empty()) << "a key without a value";
    all.push_back(stretch);
  }
  return all;
}

Expected replay(const std::vector<std::string>& words) {
  std::map<std::string, Stretch> seen;
  Expected expected;
  for (const Stretch& stretch : stretches(words)) {
    const auto known = seen.find(stretch.key);
    if (stretch.is_pair() && known != seen.end()) {
      EXPECT_EQ(stretch.value, known->second.value) << stretch.key << " has changed";
      while (static_cast<int64_t>(expected.labels.size()) < stretch.last_key_token) expected.none();
      const int64_t gap = stretch.last_key_token - (known->second.last_key_token + 1);
      for (const std::string& symbol : stretch.value) expected.ask(symbol, gap);
      expected.none();
    } else {
      const int64_t end = stretch.is_pair() ? stretch.last_key_token + 1 : static_cast<int64_t>(expected.labels.size());
      while (static_cast<int64_t>(expected.labels.size()) < end + static_cast<int64_t>(stretch.value.size())) {
        expected.none();
      }
    }
    if (stretch.is_pair()) seen[stretch.key] = stretch;
  }
  return expected;
}

void expect_recalls(const std::vector<std::string>& settings, int64_t length) {
  const auto task = make_task(settings);
  for (int64_t index = 0; index < 30; ++index) {
    const Example drawn = task->example(1, index % 2 ? Split::test : Split::train, index);
    expect_example(*task, drawn, length, replay(printed_inputs(*task, drawn)));
  }
}

std::vector<std::string> with(std::vector<std::string> settings, const std::vector<std::string>& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

TEST(Recall, AsksForTheValuesOfKeysThatComeAgain) {
  for (const int64_t length : {4, 5, 64, 257}) {
    const std::string setting = fmt::format("task.length={}", length);
    expect_recalls(with(kInContext, {setting}), length);
    expect_recalls(with(kNoisy, {setting}), length);
    expect_recalls(with(kNoisy, {setting, "task.noisy_recall.noise=0.9", "task.noisy_recall.noise_vocab=3"}), length);
  }
  for (const int64_t length : {12, 13, 64, 257}) {
    const std::string setting = fmt::format("task.length={}", length);
    expect_recalls(with(kFuzzy, {setting}), length);
    expect_recalls(with(kFuzzy, {setting, "task.fuzzy_recall.longest_keys=true"}), length);
    expect_recalls(with(kFuzzy, {setting, "task.fuzzy_recall.key_tokens=1", "task.fuzzy_recall.value_tokens=4"}),
                   length);
  }
}

TEST(Recall, EndsWithAPairThatHasComeBefore) {
  for (const auto& settings : {kInContext, kFuzzy, kNoisy}) {
    const auto task = make_task(settings);
    for (int64_t index = 0; index < 50; ++index) {
      const Example drawn = task->example(3, Split::train, index);
      auto all = stretches(printed_inputs(*task, drawn));
      int64_t pads = 0;
      for (; all.back().value[0] == "<pad>"; ++pads) all.pop_back();
      EXPECT_EQ(settings == kFuzzy ? 0 : pads, 0);
      // Otherwise another pair of maximum length would fit.
      EXPECT_LT(pads, 2 * 6);
      EXPECT_NE(drawn.labels[all.back().last_key_token], kNoTarget);
    }
  }
}

TEST(Recall, DrawsKeysUniformly) {
  const auto task = make_task(kInContext);
  std::map<std::string, int64_t> keys;
  for (int64_t index = 0; index < 200; ++index) {
    const auto words = printed_inputs(*task, task->example(2, Split::train, index));
    for (size_t i = 0; i < 62; i += 2) ++keys[words[i]];
  }
  EXPECT_EQ(keys.size(), 8u);
  // 6200 keys: 775 of each, with a standard deviation of 26.
  for (const auto& [key, count] : keys) EXPECT_NEAR(count, 775, 5 * 26) << key;
}

TEST(Recall, FuzzyKeysAndValuesAreOfEveryLength) {
  for (const bool longest : {false, true}) {
    const auto task =
        make_task(with(kFuzzy, {"task.vocab=64", fmt::format("task.fuzzy_recall.longest_keys={}", longest)}));
    std::map<size_t, int64_t> key_sizes, value_sizes;
    int64_t pairs = 0;
    for (int64_t index = 0; index < 300; ++index) {
      auto all = stretches(printed_inputs(*task, task->example(2, Split::train, index)));
      while (!all.back().is_pair()) all.pop_back();
      all.pop_back();  // the last pair repeats an earlier key
      for (const Stretch& stretch : all) {
        ++pairs;
        ++value_sizes[stretch.value.size()];
        ++key_sizes[std::count(stretch.key.begin(), stretch.key.end(), ' ')];
      }
    }
    const double third = static_cast<double>(pairs) / 3, deviation = std::sqrt(2.0 / 9 * static_cast<double>(pairs));
    // A sequence has slightly more of the short ones, because more of them fit at its end; the tolerance covers this.
    EXPECT_EQ(value_sizes.size(), 3u);
    for (const auto& [size, count] : value_sizes) EXPECT_NEAR(count, third, 6 * deviation) << size;
    EXPECT_EQ(key_sizes.size(), longest ? 1u : 3u);
    if (longest) {
      EXPECT_EQ(key_sizes[3], pairs);
    } else {
      for (const auto& [size, count] : key_sizes) EXPECT_NEAR(count, third, 6 * deviation) << size;
    }
  }
}

TEST(Recall, NoiseHasItsShare) {
  for (const double noise : {0.0, 0.2, 0.8}) {
    const auto task = make_task(with(kNoisy, {fmt::format("task.noisy_recall.noise={}", noise)}));
    std::set<std::string> symbols;
    int64_t count = 0;
    for (int64_t index = 0; index < 300; ++index) {
      const auto words = printed_inputs(*task, task->example(2, Split::train, index));
      for (size_t i = 0; i < 62; i += 2) {
        if (words[i][0] != 'n') continue;
        ++count;
        symbols.insert(words[i]);
      }
    }
    const double draws = 300 * 31;
    EXPECT_NEAR(static_cast<double>(count), draws * noise, 5 * std::sqrt(draws * noise * (1 - noise)));
    EXPECT_EQ(symbols.size(), noise > 0 ? 16u : 0u);
  }
}

TEST(Recall, IsTheSameOnEveryMachine) {
  EXPECT_EQ(golden(*make_task(kFuzzy), 5), golden(*make_task(kFuzzy), 5));
  EXPECT_NE(golden(*make_task(kFuzzy), 5), golden(*make_task(kFuzzy), 6));
  EXPECT_EQ(golden(*make_task(kInContext), 5), 0x816acc9234ed57e0u);
  EXPECT_EQ(golden(*make_task(kFuzzy), 5), 0xab2e1d49f848884du);
  EXPECT_EQ(golden(*make_task(kNoisy), 5), 0x28a5d24ab08e91d0u);
}

TEST(Recall, TrainAndTestShareNoSequence) {
  expect_disjoint_splits(*make_task({"task.name=in_context_recall", "task.length=4", "task.vocab=16"}));
  expect_disjoint_splits(*make_task({"task.name=fuzzy_recall", "task.length=6", "task.vocab=10",
                                     "task.fuzzy_recall.key_tokens=2", "task.fuzzy_recall.value_tokens=1"}));
  expect_disjoint_splits(
      *make_task({"task.name=noisy_recall", "task.length=6", "task.vocab=6", "task.noisy_recall.noise_vocab=3"}));
}

TEST(Recall, NamesItsTokens) {
  const auto noisy = make_task(kNoisy);
  expect_distinct_names(*noisy);
  EXPECT_EQ(noisy->vocabulary(), 16 + 16 + 1);
  EXPECT_EQ(noisy->token_name(3), "k3");
  EXPECT_EQ(noisy->token_name(8 + 7), "v7");
  EXPECT_EQ(noisy->token_name(16 + 2), "n2");
  EXPECT_EQ(noisy->token_name(32), "<pad>");
  EXPECT_EQ(noisy->difficulty_name(), "gap");
  for (const auto& settings : {kInContext, kFuzzy}) expect_distinct_names(*make_task(settings));
  EXPECT_EQ(make_task(kInContext)->vocabulary(), 16 + 1);
}

TEST(Recall, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal({"task.name=in_context_recall", "task.length=3"}),
            "task.length = 3 must be at least 4 for in_context_recall: a key-value pair, twice");
  EXPECT_EQ(refusal({"task.name=noisy_recall", "task.vocab=2"}),
            "task.vocab = 2 must be even and at least 4 for noisy_recall: the first half are keys, the second "
            "values");
  EXPECT_NE(refusal({"task.name=in_context_recall", "task.vocab=7"}).find("must be even"), std::string::npos);
  EXPECT_NE(refusal({"task.name=fuzzy_recall", "task.length=11"}).find("must be at least 12"), std::string::npos);
  EXPECT_NE(refusal({"task.name=fuzzy_recall", "task.vocab=4"}).find("must be even and at least 6"), std::string::npos);
  EXPECT_NE(refusal({"task.name=fuzzy_recall", "task.fuzzy_recall.key_tokens=0"})
                .find("task.fuzzy_recall.key_tokens = 0 must be between 1"),
            std::string::npos);
  EXPECT_NE(
      refusal({"task.name=fuzzy_recall", "task.fuzzy_recall.value_tokens=9000000000000000"}).find("must be between 1"),
      std::string::npos);
  for (const char* noise : {"-0.1", "1", "2"}) {
    EXPECT_NE(refusal({"task.name=noisy_recall", fmt::format("task.noisy_recall.noise={}", noise)})
                  .find(fmt::format("task.noisy_recall.noise = {} must be at least 0 and below 1", noise)),
              std::string::npos);
  }
  EXPECT_NE(refusal({"task.name=noisy_recall", "task.noisy_recall.noise_vocab=0"}).find("must be between 1"),
            std::string::npos);
}

}  // namespace
}  // namespace klab
