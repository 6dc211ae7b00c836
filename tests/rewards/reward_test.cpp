// SPDX-License-Identifier: Apache-2.0
#include "rewards/reward.h"

#include <gtest/gtest.h>

#include "core/base/support.h"
#include "tasks/prompt_answer.h"
#include "tasks/task.h"

namespace klab {
namespace {

// Words separated by spaces as tokens, whose names they are.
class Words {
 public:
  double judge(const RewardFunction& reward, const std::string& prompt, const std::string& reference,
               const std::string& answer) {
    const std::vector<int64_t> p = tokens(prompt), r = tokens(reference), a = tokens(answer);
    const std::function<std::string(int64_t)> name = [this](int64_t token) { return words_.at(token); };
    return reward({p, r, a, name});
  }

 private:
  std::vector<int64_t> tokens(const std::string& text) {
    std::vector<int64_t> ids;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find(' ', begin), text.size());
      words_.push_back(text.substr(begin, end - begin));
      const auto first = std::find(words_.begin(), words_.end(), words_.back());
      ids.push_back(first - words_.begin());
      begin = end + 1;
    }
    return ids;
  }

  std::vector<std::string> words_;
};

RewardFunction made(const std::string& name, const std::vector<Assignment>& options = {}) {
  RewardConfig config;
  std::vector<Assignment> all = options;
  all.push_back({"name", name, ""});
  assign(config, all);
  return config.make();
}

TEST(Reward, ExactIsOneForTheReferenceAlone) {
  Words words;
  const RewardFunction exact = made("exact");
  EXPECT_EQ(words.judge(exact, "a b", "b a <end>", "b a <end>"), 1);
  for (const char* wrong : {"b a", "b b <end>", "b a <end> <end>", "b a a <end>", "a b <end>"}) {
    EXPECT_EQ(words.judge(exact, "a b", "b a <end>", wrong), 0) << wrong;
  }
}

TEST(Reward, PrefixIsTheShareThatTheAnswerBeginsWith) {
  Words words;
  const RewardFunction prefix = made("prefix");
  EXPECT_EQ(words.judge(prefix, "a", "a b c d", "a b c d"), 1);
  EXPECT_EQ(words.judge(prefix, "a", "a b c d", "a b c d x y"), 1);
  EXPECT_EQ(words.judge(prefix, "a", "a b c d", "a b x d"), 0.5);
  EXPECT_EQ(words.judge(prefix, "a", "a b c d", "a b c"), 0.75);
  EXPECT_EQ(words.judge(prefix, "a", "a b c d", "b c d"), 0);
}

TEST(Reward, ArithmeticComputesTheResult) {
  Words words;
  const RewardFunction reward = made("arithmetic"),
                       reversed = made("arithmetic", {{"arithmetic.result_order", "lowest_first", ""}});
  const std::string wrong = "0 <end>";  // a reference is not looked at
  EXPECT_EQ(words.judge(reward, "1 2 + 3 9 =", wrong, "5 1 <end>"), 1);
  EXPECT_EQ(words.judge(reward, "1 2 - 9 =", wrong, "3 <end>"), 1);
  EXPECT_EQ(words.judge(reward, "1 2 * 1 2 =", wrong, "1 4 4 <end>"), 1);
  EXPECT_EQ(words.judge(reward, "1 + 1 = 2 <end> 1 2 + 3 9 =", wrong, "5 1 <end>"), 1) << "the last problem";
  EXPECT_EQ(words.judge(reversed, "1 2 + 3 9 =", wrong, "1 5 <end>"), 1);
  for (const char* answer :
       {"5 1", "5 2 <end>", "1 5 <end>", "0 5 1 <end>", "5 1 <end> <end>", "<end>", "+ 5 1 <end>"}) {
    EXPECT_EQ(words.judge(reward, "1 2 + 3 9 =", "5 1 <end>", answer), 0) << answer;
  }
  for (const char* prompt : {"1 2 + 3 9", "1 2 =", "+ 1 =", "1 + ="}) {
    EXPECT_CONTAINS(message_of<Error>([&] { words.judge(reward, prompt, wrong, wrong); }), "does not end with")
        << prompt;
  }
}

// parity: 0 and 1 under addition modulo 2.
TEST(Reward, StateTrackingMultipliesTheElements) {
  Words words;
  const RewardFunction reward = made("state_tracking", {{"state_tracking.group", "parity", ""}});
  EXPECT_EQ(words.judge(reward, "product 1 1 0 1 =", "0 <end>", "1 0 0 1 <end>"), 1);
  EXPECT_EQ(words.judge(reward, "product 1 1 0 1 =", "0 <end>", "1 0 0 1"), 0.8);
  EXPECT_EQ(words.judge(reward, "product 1 1 0 1 =", "0 <end>", "1 0 0 1 1"), 0.8);
  EXPECT_EQ(words.judge(reward, "product 1 1 0 1 =", "0 <end>", "1 0 1 1 <end>"), 0.4);
  EXPECT_EQ(words.judge(reward, "product 1 1 0 1 =", "0 <end>", "<end>"), 0);
  EXPECT_CONTAINS(message_of<Error>([&] { words.judge(reward, "product 1 2 =", "0", "0"); }), "not an element");
  EXPECT_CONTAINS(message_of<Error>([&] { words.judge(reward, "1 +", "0", "0"); }), "of the form");
}

TEST(Reward, UnknownNamesAreRefusedWithTheKnownOnes) {
  EXPECT_CONTAINS(message_of<UsageError>([] { made("exakt"); }), "exact");
  for (const RewardEntry& entry : rewards().entries()) {
    EXPECT_FALSE(entry.summary.empty());
    EXPECT_EQ(Fields::of(RewardConfig()).find("name")->get(), "exact");
  }
}

// The rewards that fit a task call its own answers right, and each of them with one token changed wrong.
TEST(Reward, AgreesWithTheTasks) {
  struct Case {
    std::vector<Assignment> task;
    std::vector<std::string> rewards;
  };
  for (const Case& one :
       {Case{{{"name", "question", ""}, {"question.kind", "palindrome", ""}}, {"exact", "prefix"}},
        Case{{{"name", "question", ""}, {"question.kind", "addition", ""}}, {"exact", "prefix", "arithmetic"}},
        Case{{{"name", "question", ""}, {"question.kind", "state_tracking", ""}, {"question.group", "s3", ""}},
             {"exact", "prefix", "state_tracking"}},
        Case{{{"name", "arithmetic", ""}, {"length", 12, ""}, {"arithmetic.operation", "mixed", ""}},
             {"exact", "arithmetic"}}}) {
    TaskConfig config;
    assign(config, one.task);
    const auto task = config.make();
    const std::function<std::string(int64_t)> name = [&](int64_t token) { return task->token_name(token); };
    for (const std::string& reward_name : one.rewards) {
      const RewardFunction reward = made(reward_name);
      for (int64_t i = 0; i < 30; ++i) {
        const PromptAnswer row = prompt_and_answer(task->example(1, Split::train, i));
        EXPECT_EQ(reward({row.prompt, row.answer, row.answer, name}), 1) << reward_name;
        for (size_t at = 0; at < row.answer.size(); ++at) {
          std::vector<int64_t> changed = row.answer;
          changed[at] = (changed[at] + 1) % 10;
          EXPECT_LT(reward({row.prompt, row.answer, changed, name}), 1) << reward_name << " token " << at;
        }
      }
    }
  }
}

}  // namespace
}  // namespace klab
