// SPDX-License-Identifier: Apache-2.0
// Text tasks against documents that the tests write themselves.
#include "tasks/text.h"

#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "core/base/file.h"
#include "core/public/tokenizer.h"
#include "tasks/support.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

class TextTest : public testing::Test {
 protected:
  TextTest() {
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "data");
    setenv("KLAB_CACHE", (folder_ / "cache").c_str(), 1);
  }
  ~TextTest() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) const {
    const fs::path path = folder_ / "data" / name;
    fs::create_directories(path.parent_path());
    write_file(path.string(), text);
    return path.string();
  }

  // 200 short documents that differ, as one file with blank lines between them.
  std::vector<std::string> write_documents() const {
    std::vector<std::string> documents;
    std::string text;
    for (int n = 0; n < 200; ++n) {
      documents.push_back("document " + std::to_string(n * n) + std::string(static_cast<size_t>(n % 7), 'x'));
      text += (n > 0 ? "\n\n" : "") + documents.back();
    }
    write("all.txt", text);
    return documents;
  }

  std::vector<std::string> settings(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all{"task.name=text", "task.text.files=[\"" + (folder_ / "data").string() + "\"]"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::unique_ptr<Task> task(const std::vector<std::string>& more) const { return make_task(settings(more)); }

  const fs::path folder_ = fs::path(testing::TempDir()) /
                           ("klab text " + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
};

// The documents in the targets of all rows of a split, in the order in which they come.
std::vector<std::string> documents_in(const Task& task, Split split, int64_t seed, int64_t rows) {
  std::vector<std::string> documents(1);
  for (int64_t index = 0; index < rows; ++index) {
    const Example row = task.example(seed, split, index);
    for (const int64_t label : row.labels) {
      if (label == 256) documents.emplace_back();
      if (label >= 0 && label < 256) documents.back() += static_cast<char>(label);
    }
  }
  documents.pop_back();
  return documents;
}

const std::vector<Split> kEachSplit = {Split::train, Split::test, Split::validation};

TEST_F(TextTest, EveryDocumentIsInOneSplitOnce) {
  const std::vector<std::string> documents = write_documents();
  const auto task = this->task({"task.text.separator=\\n\\n", "task.length=37"});
  std::multiset<std::string> found;
  for (const Split split : kEachSplit) {
    int64_t rows = *task->examples(split);
    std::vector<std::string> here = documents_in(*task, split, 1, rows);
    const std::set<std::string> different(here.begin(), here.end());
    if (split == Split::train) here.assign(different.begin(), different.end());  // its last row begins the next pass
    EXPECT_GT(here.size(), split == Split::train ? 150u : 3u) << to_string(split);
    found.insert(here.begin(), here.end());
  }
  EXPECT_EQ(found, std::multiset<std::string>(documents.begin(), documents.end()));
}

TEST_F(TextTest, EachPassHasItsOrderAndAllDocuments) {
  write_documents();
  const auto task = this->task({"task.text.separator=\\n\\n", "task.length=64"});
  const auto first = documents_in(*task, Split::train, 1, 200), second = documents_in(*task, Split::train, 2, 200);
  EXPECT_EQ(first, documents_in(*this->task({"task.text.separator=\\n\\n", "task.length=64"}), Split::train, 1, 200));
  EXPECT_NE(first, second);
  // Position in the passes: document i of the second pass comes after all of the first.
  const std::set<std::string> different(first.begin(), first.end());
  std::map<std::string, int64_t> counts;
  for (size_t i = 0; i < 2 * different.size(); ++i) {
    ASSERT_LT(i, first.size());
    EXPECT_LE(++counts[first[i]], i < different.size() ? 1 : 2);
  }
}

// A row is what one gets from the documents one by one: <end>, tokens; targets are the next token or <end>.
TEST_F(TextTest, DocumentsArePackedWithoutGaps) {
  write_documents();
  const auto task = this->task({"task.text.separator=\\n\\n", "task.length=50"});
  const Example row = task->example(3, Split::train, 0);
  const std::vector<std::string> documents = documents_in(*task, Split::train, 3, 10);
  std::vector<int64_t> inputs, labels, starts, bytes;
  for (const std::string& document : documents) {
    inputs.push_back(256);
    starts.push_back(1);
    for (const char c : document) {
      inputs.push_back(static_cast<unsigned char>(c));
      labels.push_back(static_cast<unsigned char>(c));
      starts.push_back(0);
      bytes.push_back(1);
    }
    labels.push_back(256);
    bytes.push_back(0);
  }
  for (auto* all : {&inputs, &labels, &starts, &bytes}) all->resize(50);
  EXPECT_EQ(row.inputs, inputs);
  EXPECT_EQ(row.labels, labels);
  EXPECT_EQ(row.starts, starts);
  EXPECT_EQ(row.bytes, bytes);
  const Example crossing =
      this->task({"task.text.separator=\\n\\n", "task.length=50", "task.text.cross_documents=true"})
          ->example(3, Split::train, 0);
  std::vector<int64_t> one(50, 0);
  one[0] = 1;
  EXPECT_EQ(crossing.inputs, inputs);
  EXPECT_EQ(crossing.starts, one);
}

TEST_F(TextTest, DifficultyIsTheGapToTheLastSamePair) {
  write("a.txt", "abcabdab");
  const auto task = this->task({"task.text.split=all", "task.length=9"});
  const Example row = task->example(1, Split::train, 0);
  // targets:                                  a  b  c  a  b  d  a  b  <end>
  EXPECT_EQ(row.difficulty, (std::vector<int64_t>{0, 0, 0, 0, 3, 0, 0, 3, 0}));
}

TEST_F(TextTest, HeldOutRowsEndWithoutTargets) {
  write("a.txt", "abc");
  const auto task = this->task({"task.text.split=all", "task.length=10"});
  ASSERT_EQ(task->examples(Split::test), 1);
  const Example row = task->example(1, Split::test, 0);
  EXPECT_EQ(row.labels, (std::vector<int64_t>{'a', 'b', 'c', 256, -100, -100, -100, -100, -100, -100}));
  const Example training = task->example(1, Split::train, 0);
  EXPECT_EQ(training.labels, (std::vector<int64_t>{'a', 'b', 'c', 256, 'a', 'b', 'c', 256, 'a', 'b'}));
}

TEST_F(TextTest, FilesFoldersAndPatternsWithEmptyFilesAndAnyBytes) {
  write("one/a b.txt", "first");
  write("one/.hidden/x.txt", "hidden");
  write("one/empty.txt", "");
  write("two/c.md", std::string("\xff\xfe\0z", 4));
  const std::string root = (folder_ / "data").string();
  const auto found = [&](const std::string& files) {
    const auto task =
        make_task({"task.name=text", "task.text.split=all", "task.length=30", "task.text.files=" + files});
    const auto documents = documents_in(*task, Split::test, 1, *task->examples(Split::test));
    return std::set<std::string>(documents.begin(), documents.end());
  };
  const std::string binary("\xff\xfe\0z", 4);
  EXPECT_EQ(found("[\"" + root + "\"]"), (std::set<std::string>{"first", binary}));
  EXPECT_EQ(found("[\"" + root + "/*/*.txt\"]"), (std::set<std::string>{"first"}));
  EXPECT_EQ(found("[\"" + root + "/two\", \"" + root + "/one/a b.txt\"]"), (std::set<std::string>{"first", binary}));
}

TEST_F(TextTest, ATokenizerEncodesEachDocumentOnce) {
  // Bytes and two merges.
  std::string ranks;
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto base64 = [&](const std::string& bytes) {
    uint32_t group = 0;
    for (size_t i = 0; i < 3; ++i) group = group << 8 | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u);
    std::string text;
    for (size_t i = 0; i < 4; ++i) text += i <= bytes.size() ? alphabet[group >> (18 - 6 * i) & 63] : '=';
    return text;
  };
  for (int byte = 0; byte < 256; ++byte)
    ranks += base64(std::string(1, static_cast<char>(byte))) + " " + std::to_string(byte) + "\n";
  ranks += base64("do") + " 256\n" + base64("cu") + " 257\n";
  fs::create_directories(folder_ / "tokenizer");
  write_file((folder_ / "tokenizer" / "tiktoken.model").string(), ranks);
  write_documents();
  const std::vector<std::string> with{"task.text.separator=\\n\\n", "task.length=40",
                                      "task.text.tokenizer=" + (folder_ / "tokenizer").string()};
  const Tokenizer tokenizer = Tokenizer::load((folder_ / "tokenizer").string());
  const Example row = task(with)->example(1, Split::train, 0);
  const auto bytes = documents_in(*task({"task.text.separator=\\n\\n"}), Split::train, 1, 20);
  std::vector<int64_t> labels, sizes;
  for (const std::string& document : bytes) {
    for (const int64_t id : tokenizer.encode(document, false)) {
      labels.push_back(id);
      sizes.push_back(id < 256 ? 1 : 2);
    }
    labels.push_back(tokenizer.size());
    sizes.push_back(0);
  }
  labels.resize(40);
  sizes.resize(40);
  EXPECT_EQ(row.labels, labels);
  EXPECT_EQ(row.bytes, sizes);
  EXPECT_EQ(task(with)->vocabulary(), tokenizer.size() + 1);
  // The second time it is read from the file, and a damaged file is an error.
  const auto cached = fs::directory_iterator(folder_ / "cache")->path();
  EXPECT_EQ(task(with)->example(1, Split::train, 0).labels, labels);
  fs::resize_file(cached, fs::file_size(cached) - 8);
  EXPECT_THROW(task(with), Error);
}

TEST_F(TextTest, ChangedTextIsRefused) {
  write_documents();
  RootConfig config = configured(settings({"task.text.separator=\\n\\n"}));
  config.task.identify_data();
  const std::string yaml = to_yaml(config);
  EXPECT_NE(yaml.find("hash: "), std::string::npos);
  EXPECT_EQ(yaml.find("hash: \"\""), std::string::npos);
  write("more.txt", "more");
  EXPECT_THROW(config.validate(), UsageError);
  fs::remove(folder_ / "data" / "more.txt");
  config.validate();
}

TEST_F(TextTest, NamesItsTokensAndRefusesWhatItCannotUse) {
  EXPECT_NE(refusal({"task.name=text"}).find("task.text.files"), std::string::npos);
  EXPECT_NE(refusal({"task.name=text", "task.text.files=[/nowhere/*.txt]"}).find("'/nowhere/*.txt'"),
            std::string::npos);
  write("empty.txt", "");
  EXPECT_NE(refusal(settings()).find("all files"), std::string::npos);
  write("a.txt", "one document");
  EXPECT_NE(refusal(settings()).find("one document in 16"), std::string::npos);
  EXPECT_NE(refusal(settings({"task.text.separator=\\q"})).find("the escapes are"), std::string::npos);
  EXPECT_NE(refusal(settings({"task.text.tokenizer=/nowhere"})).find("task.text.tokenizer"), std::string::npos);
  expect_distinct_names(*task({"task.text.split=all"}));
}

}  // namespace
}  // namespace klab
