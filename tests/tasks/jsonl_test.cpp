// SPDX-License-Identifier: Apache-2.0
// JSON Lines tasks against files that the tests write themselves.
#include "tasks/jsonl.h"

#include <filesystem>
#include <future>
#include <map>
#include <set>

#include "core/base/file.h"
#include "core/public/tokenizer.h"
#include "tasks/prompt_answer.h"
#include "tasks/support.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

const std::vector<Split> kAllSplits = {Split::train, Split::test, Split::validation};
constexpr int64_t kEnd = 256, kPad = 257;

std::string line_of(const std::string& prompt, const std::string& answer) {
  return nlohmann::ordered_json{{"prompt", prompt}, {"answer", answer}}.dump() + "\n";
}

class JsonlTest : public testing::Test {
 protected:
  JsonlTest() {
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "data");
  }
  ~JsonlTest() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) const {
    const fs::path path = folder_ / "data" / name;
    fs::create_directories(path.parent_path());
    write_file(path.string(), text);
    return path.string();
  }

  // 300 pairs that differ, in one file.
  std::map<std::string, std::string> write_pairs() const {
    std::map<std::string, std::string> pairs;
    std::string lines;
    for (int n = 0; n < 300; ++n) {
      const std::string prompt = "square of " + std::to_string(n) + "?", answer = std::to_string(n * n);
      pairs[prompt] = answer;
      lines += line_of(prompt, answer);
    }
    write("pairs.jsonl", lines);
    return pairs;
  }

  std::vector<std::string> settings(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all{"task.name=jsonl", "task.jsonl.files=[\"" + (folder_ / "data").string() + "\"]"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::unique_ptr<Task> task(const std::vector<std::string>& more = {}) const { return make_task(settings(more)); }

  // The message for a file with one sound line, a blank one, and `line`.
  std::string refusal_of(const std::string& line, const std::vector<std::string>& more = {}) const {
    write("broken.jsonl", line_of("a", "b") + "\n" + line + "\n");
    return refusal(settings(more));
  }

  const fs::path folder_ = fs::path(testing::TempDir()) /
                           ("klab jsonl " + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
};

std::string text_of(const std::vector<int64_t>& ids) {
  std::string text;
  for (const int64_t id : ids) text += static_cast<char>(id);
  return text;
}

// The prompt and the answer of a row of bytes.
std::pair<std::string, std::string> pair_of(const Example& row) {
  PromptAnswer tokens = prompt_and_answer(row);
  EXPECT_EQ(tokens.answer.back(), kEnd);
  tokens.answer.pop_back();
  return {text_of(tokens.prompt), text_of(tokens.answer)};
}

// The prompts of examples [first, first + count), in their order.
std::vector<std::string> prompts_in(const Task& task, Split split, int64_t seed, int64_t first, int64_t count) {
  std::vector<std::string> prompts;
  for (int64_t i = first; i < first + count; ++i) prompts.push_back(pair_of(task.example(seed, split, i)).first);
  return prompts;
}

TEST_F(JsonlTest, ARowIsPromptAnswerEndAndPadding) {
  write("a.jsonl", line_of("ab", "xyz"));
  const auto task = this->task({"task.jsonl.split=all", "task.length=8"});
  const Example row = task->example(1, Split::train, 0);
  const int64_t none = kNoTarget;
  EXPECT_EQ(row.inputs, (std::vector<int64_t>{'a', 'b', 'x', 'y', 'z', kEnd, kPad, kPad}));
  EXPECT_EQ(row.labels, (std::vector<int64_t>{none, 'x', 'y', 'z', kEnd, none, none, none}));
  EXPECT_EQ(row.difficulty, (std::vector<int64_t>{-1, 3, 3, 3, 3, -1, -1, -1}));
  EXPECT_EQ(row.bytes, (std::vector<int64_t>{0, 1, 1, 1, 0, 0, 0, 0}));
  EXPECT_TRUE(row.starts.empty());
  EXPECT_EQ(task->vocabulary(), 258);
  EXPECT_EQ(task->end_token(), kEnd);
  EXPECT_EQ(task->difficulty_name(), "answer_tokens");
  EXPECT_EQ(task->token_name(kPad), "<pad>");
  expect_distinct_names(*task);
}

TEST_F(JsonlTest, EveryPromptIsInOneSplitWithItsAnswer) {
  const std::map<std::string, std::string> pairs = write_pairs();
  const auto task = this->task();
  std::map<std::string, std::string> found;
  int64_t rows = 0;
  for (const Split split : kAllSplits) {
    const int64_t count = *task->examples(split);
    EXPECT_GT(count, split == Split::train ? 220 : 5) << to_string(split);
    rows += count;
    for (int64_t i = 0; i < count; ++i) found.insert(pair_of(task->example(1, split, i)));
  }
  EXPECT_EQ(rows, 300);
  EXPECT_EQ(found, pairs);
}

TEST_F(JsonlTest, AnswersToOnePromptAreInOneSplit) {
  std::string lines;
  for (int n = 0; n < 300; ++n) lines += line_of("prompt " + std::to_string(n % 100), "answer " + std::to_string(n));
  write("a.jsonl", lines);
  const auto task = this->task();
  std::map<std::string, std::set<std::string>> splits;
  for (const Split split : kAllSplits) {
    for (const std::string& prompt : prompts_in(*task, split, 1, 0, *task->examples(split))) {
      splits[prompt].insert(to_string(split));
    }
  }
  EXPECT_EQ(splits.size(), 100u);
  for (const auto& [prompt, of] : splits) EXPECT_EQ(of.size(), 1u) << prompt;
}

TEST_F(JsonlTest, SplitAllGivesEverySplitAllLines) {
  write("a.jsonl", line_of("1", "a") + line_of("2", "b"));
  const auto task = this->task({"task.jsonl.split=all"});
  for (const Split split : kAllSplits) {
    EXPECT_EQ(task->examples(split), 2);
    const auto prompts = prompts_in(*task, split, 1, 0, 2);
    EXPECT_EQ(std::set<std::string>(prompts.begin(), prompts.end()), (std::set<std::string>{"1", "2"}));
  }
}

TEST_F(JsonlTest, EachPassHasItsOrderAndAllLines) {
  write_pairs();
  const auto task = this->task();
  const int64_t count = *task->examples(Split::train);
  const auto first = prompts_in(*task, Split::train, 1, 0, count),
             second = prompts_in(*task, Split::train, 1, count, count);
  EXPECT_NE(first, second);
  EXPECT_EQ(std::set<std::string>(first.begin(), first.end()).size(), static_cast<size_t>(count));
  EXPECT_EQ(std::multiset<std::string>(first.begin(), first.end()),
            std::multiset<std::string>(second.begin(), second.end()));
  EXPECT_NE(first, prompts_in(*task, Split::train, 2, 0, count));
  // A resumed run begins in the middle of a later pass.
  EXPECT_EQ(prompts_in(*this->task(), Split::train, 1, count + 7, 20),
            std::vector<std::string>(second.begin() + 7, second.begin() + 27));
}

TEST_F(JsonlTest, ThreadsGetTheSameExamples) {
  write_pairs();
  const auto task = this->task();
  const auto expected = prompts_in(*task, Split::train, 1, 0, 3000);
  const auto fresh = this->task();
  std::vector<std::future<std::vector<std::string>>> parts;
  for (int64_t part = 0; part < 4; ++part) {
    parts.push_back(
        std::async(std::launch::async, [&, part] { return prompts_in(*fresh, Split::train, 1, 750 * part, 750); }));
  }
  std::vector<std::string> found;
  for (auto& part : parts) {
    for (const std::string& prompt : part.get()) found.push_back(prompt);
  }
  EXPECT_EQ(found, expected);
}

TEST_F(JsonlTest, ReadsSeveralFilesFieldsAndLineEnds) {
  write("one/a.jsonl",
        "{\"q\": \"1\", \"id\": [7, {\"x\": null}], \"r\": \"one\"}\r\n\r\n  \n{\"r\": \"two\", \"q\": \"2\"}");
  write("one/.hidden", "no JSON");
  write("two/b.json", "\n{\"q\": \"\\u00e9\\n\", \"r\": \"\\ud83d\\ude00\\u0000\"}\n\n");
  const std::string root = (folder_ / "data").string();
  const auto found = [&](const std::string& files) {
    const auto task = make_task({"task.name=jsonl", "task.jsonl.split=all", "task.jsonl.prompt=q",
                                 "task.jsonl.answer=r", "task.jsonl.files=" + files});
    std::map<std::string, std::string> pairs;
    for (int64_t i = 0; i < *task->examples(Split::test); ++i) pairs.insert(pair_of(task->example(1, Split::test, i)));
    return pairs;
  };
  const std::map<std::string, std::string> one = {{"1", "one"}, {"2", "two"}};
  std::map<std::string, std::string> both = one;
  both["\u00e9\n"] = std::string("\U0001F600\0", 5);
  EXPECT_EQ(found("[\"" + root + "\"]"), both);
  EXPECT_EQ(found("[\"" + root + "/*/*.jsonl\"]"), one);
  EXPECT_EQ(found("[\"" + root + "/two\", \"" + root + "/one/a.jsonl\"]"), both);
}

TEST_F(JsonlTest, NamesTheFileAndLineOfABrokenLine) {
  const std::string where = (folder_ / "data" / "broken.jsonl").string() + ", line 3: ";
  const std::string right = ". A line must be an object such as {\"prompt\":\"2+2=\",\"answer\":\"4\"}";
  const std::map<std::string, std::string> broken = {
      {R"({"prompt": "a", "answer": })", "the line is not valid JSON, from byte 27 on"},
      {R"({"prompt": "a", "answer": "b"} x)", "the line is not valid JSON, from byte 32 on"},
      {"{\"prompt\": \"a\xff\", \"answer\": \"b\"}", "the line is not valid UTF-8"},
      {R"({"prompt": "a", "answer": "\ud800"})", "the line is not valid JSON, from byte 34 on"},
      {R"({"prompt": "a", "answer": "b", "score": 1e999})", "a number in the line is too large"},
      {R"(["a", "b"])", "the line is of type array, not an object"},
      {R"({"prompt": "a", "response": "b"})",
       "the object has no field 'answer' (task.jsonl.answer), only: prompt, response"},
      {R"({"answer": "a"})", "the object has no field 'prompt' (task.jsonl.prompt), only: answer"},
      {R"({"prompt": "a", "answer": 4})", "the field 'answer' is of type number, not a string"},
      {R"({"prompt": null, "answer": "b"})", "the field 'prompt' is of type null, not a string"},
      {R"({"prompt": "", "answer": "b"})", "the field 'prompt' is empty"},
      {R"({"prompt": "a", "answer": ""})", "the field 'answer' is empty"},
  };
  for (const auto& [line, wrong] : broken) EXPECT_EQ(refusal_of(line), where + wrong + right);
}

TEST_F(JsonlTest, TooLongLinesAreAnErrorOrLeftOut) {
  // 3 + 4 + <end> tokens fit, one more does not.
  const std::string fits = line_of("abc", "defg"), longer = line_of("abc", "defgh");
  write("a.jsonl", fits);
  EXPECT_EQ(task({"task.jsonl.split=all", "task.length=8"})->example(1, Split::train, 0).inputs.back(), kEnd);
  write("a.jsonl", fits + longer + fits);
  EXPECT_EQ(refusal(settings({"task.jsonl.split=all", "task.length=8"})),
            (folder_ / "data" / "a.jsonl").string() +
                ", line 2: the line has 9 tokens, with <end>, but task.length = 8. Make it larger, or leave such lines "
                "out with task.jsonl.too_long = skip");
  const std::vector<std::string> skip{"task.jsonl.split=all", "task.length=8", "task.jsonl.too_long=skip"};
  EXPECT_EQ(task(skip)->examples(Split::train), 2);
  EXPECT_EQ(task({"task.jsonl.split=all", "task.length=9"})->examples(Split::train), 3);
  write("a.jsonl", longer + longer);
  EXPECT_EQ(refusal(settings(skip)), "task.length = 8: all 2 lines of " + (folder_ / "data" / "a.jsonl").string() +
                                         " have more tokens, with <end>; the shortest has 9");
}

// One file, with all tokens and with those of a tokenizer.
TEST_F(JsonlTest, ATokenizerEncodesPromptAndAnswer) {
  std::string ranks;
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (unsigned byte = 0; byte < 256; ++byte) {
    ranks += std::string{alphabet[byte >> 2], alphabet[(byte & 3) << 4]} + "== " + std::to_string(byte) + "\n";
  }
  ranks += "c3E= 256\n";  // "sq"
  fs::create_directories(folder_ / "tokenizer");
  write_file((folder_ / "tokenizer" / "tiktoken.model").string(), ranks);
  const Tokenizer tokenizer = Tokenizer::load((folder_ / "tokenizer").string());
  write("a.jsonl", line_of("is sq", "a square"));
  for (const char* name : {"tokenizer", "tokenizer/tiktoken.model"}) {
    const auto task = this->task({"task.jsonl.split=all", "task.jsonl.tokenizer=" + (folder_ / name).string()});
    const Example row = task->example(1, Split::train, 0);
    const PromptAnswer tokens = prompt_and_answer(row);
    std::vector<int64_t> answer = tokenizer.encode("a square", false);
    EXPECT_NE(std::find(answer.begin(), answer.end(), 256), answer.end());
    EXPECT_EQ(row.difficulty[tokens.prompt.size()], static_cast<int64_t>(answer.size()));
    answer.push_back(task->end_token().value());
    EXPECT_EQ(tokens.prompt, tokenizer.encode("is sq", false));
    EXPECT_EQ(tokens.answer, answer);
    EXPECT_EQ(task->vocabulary(), tokenizer.size() + 2);
    for (size_t i = 0; i < row.labels.size(); ++i) {
      EXPECT_EQ(row.bytes[i], row.labels[i] == 256 ? 2 : row.labels[i] >= 0 && row.labels[i] < 256 ? 1 : 0);
    }
  }
}

TEST_F(JsonlTest, ChangedLinesAreRefused) {
  write_pairs();
  RootConfig config = configured(settings());
  config.task.identify_data();
  EXPECT_EQ(to_yaml(config).find("hash: \"\""), std::string::npos);
  config.validate();
  assign(config, {{"task.length", "128", "test"}, {"task.jsonl.too_long", "skip", "test"}});
  config.validate();
  write("more.jsonl", line_of("more", "text"));
  EXPECT_THROW(config.validate(), UsageError);
  fs::remove(folder_ / "data" / "more.jsonl");
  config.validate();
  // Another answer of the same length.
  const std::string path = (folder_ / "data" / "pairs.jsonl").string();
  std::string text = read_file(path);
  text.replace(text.find("\"answer\":\"0\""), 12, "\"answer\":\"1\"");
  write("pairs.jsonl", text);
  EXPECT_THROW(config.validate(), UsageError);
}

TEST_F(JsonlTest, RefusesWhatItCannotUse) {
  EXPECT_NE(refusal({"task.name=jsonl"}).find("task.jsonl.files must name files"), std::string::npos);
  EXPECT_NE(refusal({"task.name=jsonl", "task.jsonl.files=[/nowhere/*.jsonl]"}).find("task.jsonl.files: '/nowhere"),
            std::string::npos);
  write("a.jsonl", "\n\r\n");
  EXPECT_NE(refusal(settings()).find("task.jsonl.files: there is no line in"), std::string::npos);
  write("a.jsonl", line_of("one", "line"));
  EXPECT_NE(refusal(settings()).find("belongs to the"), std::string::npos);
  EXPECT_NE(refusal(settings()).find("prompt in 16"), std::string::npos);
  EXPECT_NE(refusal(settings({"task.jsonl.tokenizer=/nowhere"})).find("task.jsonl.tokenizer = /nowhere"),
            std::string::npos);
  EXPECT_EQ(refusal(settings({"task.jsonl.answer=prompt"})),
            "task.jsonl.answer = prompt must differ from task.jsonl.prompt");
}

}  // namespace
}  // namespace klab
