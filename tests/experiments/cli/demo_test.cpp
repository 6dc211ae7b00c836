// SPDX-License-Identifier: Apache-2.0
// klab demo with few steps: its files and its words, continuing it, and running it again.
#include <map>
#include <set>

#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/base/support.h"
#include "core/base/text.h"
#include "experiments/cli/support.h"

namespace klab {
namespace {

namespace fs = std::filesystem;
using Texts = std::vector<std::string>;

class Demo : public ProgramTest {
 protected:
  Texts command(const std::string& steps) const {
    return {"demo", "--steps", steps, "--workers", "2", "--out", path("demo"), "--quiet"};
  }

  // Fails unless the files are those of a complete demo of so many steps.
  void expect_files(const std::string& steps) const {
    const CsvTable search = read_csv(path("demo/search.csv")), results = read_csv(path("demo/results.csv"));
    EXPECT_EQ(search.rows.size(), 3u * 2) << "every mixer at two learning rates";
    ASSERT_EQ(results.rows.size(), 3u * 5);
    std::map<std::string, std::set<std::string>> seeds;
    for (const auto& row : results.rows) {
      seeds[row[results.column("model.pattern")]].insert(row[results.column("train.seed")]);
      EXPECT_EQ(row[results.column("step")], steps);
      EXPECT_EQ(row[results.column("state")], "finished");
    }
    ASSERT_EQ(seeds.size(), 3u);
    for (const auto& [mixer, own] : seeds) {
      EXPECT_EQ(own, seeds.begin()->second) << mixer;
      EXPECT_EQ(own.size(), 5u) << mixer;
      EXPECT_EQ(own.count("1"), 0u) << "the search's seed";
    }
    EXPECT_EQ(read_file(path("demo/demo.png")).substr(1, 3), "PNG");
    for (const char* file : {"curves.csv", "study.yaml", "page.md"}) {
      EXPECT_GT(fs::file_size(path("demo/") + file), 0u) << file;
    }
  }

  // The sentence on a claim must say what the page counts.
  static void expect_agreement(const std::string& out, const std::string& page, const std::string& better,
                               const std::string& than) {
    const std::string counted = "- " + better + " above " + than + ": ";
    const size_t at = page.find(counted);
    ASSERT_NE(at, std::string::npos) << page;
    const std::string verdict = page.substr(at + counted.size(), page.find('\n', at) - at - counted.size());
    const std::map<std::string, std::string> sentences = {
        {"held in 1 of 1 cell.", better + " recalls more than " + than + " here: +"},
        {"reversed in 1 of 1 cell.", better + " recalls less than " + than + " here: -"},
        {"equal within the margin in 1 of 1 cell.", better + " and " + than + " do not differ here by more than 5 "},
        {"not decided in 1 of 1 cell.", better + " and " + than + ": "}};
    ASSERT_EQ(sentences.count(verdict), 1u) << verdict;
    const std::string sentence = "\n" + sentences.at(verdict);
    ASSERT_TRUE(contains(out, sentence)) << "for '" << verdict << "' the program prints: " << out;
    const std::string line = out.substr(out.find(sentence) + 1, out.find('\n', out.find(sentence) + 1));
    if (verdict.starts_with("not")) {
      EXPECT_TRUE(contains(line, "not decided: ")) << line;
    }
  }
};

TEST_F(Demo, ComparesThreeMixersContinuesAndRunsAgain) {
  const Finished run = klab(command("2"));
  ASSERT_EQ(run.status, 0) << run.err;
  expect_files("2");
  const std::string page = read_file(path("demo/page.md"));
  expect_agreement(run.out, page, "gdn", "mamba2");
  expect_agreement(run.out, page, "kda", "gdn");
  EXPECT_TRUE(contains(run.out, "2 layers x 1 head x key width 8")) << run.out;
  EXPECT_TRUE(contains(run.out, "Test data after training")) << run.out;
  // The means in the table are those of the results.
  const CsvTable results = read_csv(path("demo/results.csv"));
  for (const std::string mixer : {"kda", "gdn", "mamba2"}) {
    double sum = 0;
    for (const auto& row : results.rows) {
      if (row[results.column("model.pattern")] == "[" + mixer + "]")
        sum += std::stod(row[results.column("test_acc_tok")]);
    }
    const size_t row = run.out.find("\n" + mixer + " ");
    ASSERT_NE(row, std::string::npos) << run.out;
    Texts cells;
    for (const std::string& cell : split(run.out.substr(row + 1, run.out.find('\n', row + 1) - row - 1), ' ')) {
      if (!cell.empty()) cells.push_back(cell);
    }
    ASSERT_GT(cells.size(), 4u);
    EXPECT_NEAR(std::stod(cells[4]), 100 * sum / 5, 0.051) << run.out;
  }

  // Without two of its records it is an interrupted demo, which continues.
  const Texts before = timeless_rows(path("demo/results.csv"));
  const auto record = [&](size_t row) {
    return path("demo/runs-demo/seeds/" + results.rows[row][results.column("run")] + "/record.json");
  };
  const auto written = fs::last_write_time(record(0));
  fs::remove(record(4));
  fs::remove(record(14));
  ASSERT_EQ(klab(command("2")).status, 0);
  expect_files("2");
  EXPECT_EQ(timeless_rows(path("demo/results.csv")), before);
  EXPECT_EQ(fs::last_write_time(record(0)), written) << "a run that was over was run again";

  // A complete demo is run again, with other steps too.
  const Finished other = klab(command("3"));
  ASSERT_EQ(other.status, 0) << other.err;
  expect_files("3");
  EXPECT_FALSE(fs::exists(record(0)));
}

}  // namespace
}  // namespace klab
