// SPDX-License-Identifier: Apache-2.0
// klab inspect on trained runs: the numbers in its files, the page, and errors.
#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/base/support.h"
#include "experiments/cli/support.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
  return found;
}

class Inspect : public ProgramTest {
 protected:
  // Trains a tiny model with this pattern; returns its folder.
  std::string train(const std::string& pattern, const std::vector<std::string>& more = {},
                    const std::string& name = "run") {
    std::vector<std::string> flags = {"--model.pattern", pattern, "--model.layers", "2", "--model.heads", "2"};
    flags.insert(flags.end(), more.begin(), more.end());
    const Finished run = klab(tiny_run(path(name), flags));
    EXPECT_EQ(run.status, 0) << run.err;
    return path(name);
  }

  Finished inspect(const std::string& run, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"inspect", run, "--threads", "1", "--examples", "16"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return klab(arguments);
  }

  void expect_refused(const std::string& run, int status, const std::string& words,
                      const std::vector<std::string>& more = {}) {
    const Finished done = inspect(run, more);
    EXPECT_EQ(done.status, status) << done.err;
    EXPECT_TRUE(contains(done.err, words)) << done.err;
    EXPECT_FALSE(fs::exists(run + "/inspect"));
  }
};

struct Weights {
  CsvTable table;
  explicit Weights(const std::string& path) : table(read_csv(path)) {}
  size_t tokens() const { return table.columns.size() - 3; }
  // "" for a later token.
  const std::string& cell(size_t row, size_t s) const { return table.rows[row][3 + s]; }
  double sum(size_t row) const {
    double sum = 0;
    for (size_t s = 0; s <= row % tokens(); ++s) sum += std::stod(cell(row, s));
    return sum;
  }
};

TEST_F(Inspect, WeightsAreCausalAndSoftmaxSumsToOne) {
  const std::string run = train("kda,mla:1+attention:1");
  const Finished done = inspect(run);
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_TRUE(contains(done.out, "3 mixers")) << done.out;
  for (const std::string name : {"layer0_kda", "layer1_0_mla", "layer1_1_attention"}) {
    const Weights weights(run + "/inspect/weights_" + name + ".csv");
    const size_t heads = name == "layer0_kda" ? 2 : 1;
    ASSERT_EQ(weights.tokens(), 16U);
    ASSERT_EQ(weights.table.rows.size(), heads * 16);
    for (size_t row = 0; row < weights.table.rows.size(); ++row) {
      for (size_t s = 0; s < 16; ++s) EXPECT_EQ(weights.cell(row, s).empty(), s > row % 16);
      if (name != "layer0_kda") {
        EXPECT_NEAR(weights.sum(row), 1, 1e-5) << name << ", row " << row;
      }
    }
    EXPECT_EQ(read_file(run + "/inspect/weights_" + name + ".png").substr(1, 3), "PNG");
  }
}

TEST_F(Inspect, FixedDecaysHaveTheirHalfLives) {
  const std::string run = train("retnet,linear_attention");
  ASSERT_EQ(inspect(run).status, 0);
  const CsvTable table = read_csv(run + "/inspect/half_life.csv");
  const size_t half_life = table.column("half_life"), layer = table.column("layer"), head = table.column("head");
  ASSERT_EQ(table.rows.size(), 4U);
  for (const auto& row : table.rows) {
    const double gamma = 1 - std::exp2(-5 - std::stod(row[head]));
    const double expected = std::log(2.0) / -std::log(gamma);
    if (row[layer] == "0") {
      EXPECT_NEAR(std::stod(row[half_life]), expected, 1e-6 * expected);
    } else {
      EXPECT_EQ(row[half_life], "inf");
    }
    EXPECT_EQ(row[table.column("resets")], "0");
  }
  EXPECT_TRUE(fs::exists(run + "/inspect/half_life_layer0_retnet.png"));
  EXPECT_FALSE(fs::exists(run + "/inspect/half_life_layer1_linear_attention.png"));
  EXPECT_TRUE(contains(read_file(run + "/inspect/report.html"), "layer 1: linear_attention: nothing fades"));
}

TEST_F(Inspect, AccuracyIsThatOfTheTraining) {
  const std::string run = train("kda,gdn");
  ASSERT_EQ(inspect(run).status, 0);
  const CsvTable metrics = read_csv(run + "/metrics.csv"), accuracy = read_csv(run + "/inspect/accuracy.csv");
  const auto& trained = metrics.rows.back();  // the test examples: 16, as here
  ASSERT_EQ(trained[metrics.column("split")], "test");
  for (const char* name : {"acc_tok", "acc_seq"}) {
    EXPECT_EQ(accuracy.rows[0][accuracy.column(name)], trained[metrics.column(name)]) << name;
  }
  EXPECT_NEAR(std::stod(accuracy.rows[0][accuracy.column("loss")]), std::stod(trained[metrics.column("loss")]), 2e-6);
  int64_t targets = 0;
  for (size_t i = 1; i < accuracy.rows.size(); ++i) targets += std::stoll(accuracy.rows[i][accuracy.column("targets")]);
  EXPECT_EQ(targets, std::stoll(accuracy.rows[0][accuracy.column("targets")]));
}

TEST_F(Inspect, OneTokenMakesAStateOfRankOne) {
  const std::string run = train("kda,mamba2");
  ASSERT_EQ(inspect(run).status, 0);
  const CsvTable table = read_csv(run + "/inspect/effective_rank.csv");
  const size_t tokens = table.column("tokens"), rank = table.column("effective_rank");
  EXPECT_EQ(table.rows.size(), 2U * 2 * 16 * 8);  // layers, heads, tokens, examples
  double most = 0;
  for (const auto& row : table.rows) {
    const double found = std::stod(row[rank]);
    if (row[tokens] == "1") {
      EXPECT_NEAR(found, 1, 1e-4);
    }
    EXPECT_LE(found, std::min(8.0, std::stod(row[tokens])) + 1e-4);  // heads of 8 x 8
    most = std::max(most, found);
  }
  EXPECT_GT(most, 2);
}

TEST_F(Inspect, ThePageStandsAlone) {
  const std::string run = train("gdn,fox", {}, "a<b>&'c");
  ASSERT_EQ(inspect(run).status, 0);
  const std::string page = read_file(run + "/inspect/report.html");
  EXPECT_EQ(page.rfind("<!DOCTYPE html>", 0), 0U);
  EXPECT_EQ(count(page, "<img "), count(page, "src=\"data:image/png;base64,iVBORw0KGgo"));
  EXPECT_EQ(count(page, "<img "), count(page, " alt=\""));
  EXPECT_EQ(count(page, "<img "), 5U);  // two of weights, a half-life, a rank, the accuracy
  for (const char* outside : {"<script", "<link", "http:", "https:"}) EXPECT_FALSE(contains(page, outside)) << outside;
  EXPECT_FALSE(contains(page, "a<b>"));
  EXPECT_TRUE(contains(page, "a&lt;b&gt;&amp;&#39;c"));
  EXPECT_TRUE(contains(page, "&lt;sep&gt;"));  // mqar's separator
}

TEST_F(Inspect, OtherVariantsOfTheTask) {
  const std::string run = train("kda,attention_rope");
  const Finished longer = inspect(run, {"--length", "24", "--task.mqar.pairs", "2", "--index", "3", "--split", "train",
                                        "--most-tokens", "10", "--out", path("longer")});
  ASSERT_EQ(longer.status, 0) << longer.err;
  EXPECT_TRUE(contains(longer.err, "the first 10 of 24 tokens")) << longer.err;
  EXPECT_FALSE(fs::exists(run + "/inspect"));
  EXPECT_EQ(read_csv(path("longer/example.csv")).rows.size(), 24U);
  EXPECT_EQ(Weights(path("longer/weights_layer0_kda.csv")).tokens(), 10U);
  EXPECT_TRUE(contains(read_file(path("longer/report.html")), "length 24 (trained: 16)"));

  // Another index gives another example; the weights do not depend on the index for equal first tokens.
  ASSERT_EQ(inspect(run, {"--out", path("first")}).status, 0);
  ASSERT_EQ(inspect(run, {"--out", path("again"), "--checkpoint", "best"}).status, 0);
  ASSERT_EQ(inspect(run, {"--out", path("second"), "--index", "1"}).status, 0);
  const auto tokens = [&](const std::string& name) { return read_csv(path(name + "/example.csv")).rows; };
  const auto ids = [&](const std::string& name) {
    std::string all;
    for (const auto& row : tokens(name)) all += row[1] + " ";
    return all;
  };
  EXPECT_EQ(ids("first"), ids("again"));
  EXPECT_NE(ids("first"), ids("second"));
}

TEST_F(Inspect, TokensThatAreGiven) {
  const std::string run = train("gla,attention");
  const Finished done = inspect(run, {"--tokens", "3,10,16,3"});
  ASSERT_EQ(done.status, 0) << done.err;
  const CsvTable table = read_csv(run + "/inspect/example.csv");
  ASSERT_EQ(table.rows.size(), 4U);
  EXPECT_EQ(table.rows[0], (std::vector<std::string>{"0", "3", "k3", "", "", ""}));
  EXPECT_EQ(table.rows[2][table.column("token")], "<sep>");
  EXPECT_EQ(Weights(run + "/inspect/weights_layer1_attention.csv").tokens(), 4U);
  fs::remove_all(run + "/inspect");
  expect_refused(run, 2, "--tokens: 17 is not in the vocabulary of the model, 0..16", {"--tokens", "3,17"});
  expect_refused(run, 2, "less than two tokens", {"--tokens", "3"});
  expect_refused(run, 2, "2 sequences, but only one can be drawn", {"--tokens", "3,4;5"});
  expect_refused(run, 2, "--tokens", {"--tokens", "3,4", "--index", "1"});
}

TEST_F(Inspect, SurgeryOfTwoRuns) {
  const std::string run = train("kda"), other = train("mamba2", {}, "other");
  const Finished done = inspect(run, {"--surgery", "--with", other, "--layer", "1", "--out", path("surgery")});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_TRUE(contains(done.out, "KDA")) << done.out;
  EXPECT_TRUE(contains(done.out, "Mamba-2")) << done.out;
  EXPECT_TRUE(contains(done.out, path("surgery") + "/surgery.html")) << done.out;
  const CsvTable table = read_csv(path("surgery/surgery.csv"));
  ASSERT_EQ(table.rows.size(), 2U * 4 * 3);  // runs, pairs, operations
  EXPECT_FALSE(table.comments.empty());
  for (size_t i = 0; i < table.rows.size(); ++i) {
    const auto cell = [&](const char* column) { return table.rows[i][table.column(column)]; };
    EXPECT_EQ(cell("run"), i < 12 ? run : other);
    EXPECT_EQ(cell("layer"), "1");
    EXPECT_EQ(std::stod(cell("load")), std::stod(cell("pairs")) / 8);
    if (cell("operation") == "overwrite") {
      EXPECT_LT(std::stod(cell("error")), 1e-3);
    }
  }
  EXPECT_EQ(read_file(path("surgery/surgery_overwrite_changed.png")).substr(1, 3), "PNG");
  EXPECT_EQ(count(read_file(path("surgery/surgery.html")), "<img "), 8U);
  EXPECT_FALSE(fs::exists(path("surgery/report.html")));
  EXPECT_FALSE(fs::exists(run + "/inspect"));
}

TEST_F(Inspect, WhatSurgeryRefuses) {
  const std::string run = train("kda,attention"),
                    palindrome = train("kda", {"--task.name", "palindrome", "--task.length", "17"}, "palindrome");
  expect_refused(run, 2, "--layer 1: its state cannot be edited", {"--surgery", "--layer", "1"});
  expect_refused(run, 2, "--layer 0 needs --surgery", {"--layer", "0"});
  expect_refused(run, 2, "needs --surgery; a report is of one run", {"--with", run});
  expect_refused(run, 2, "--index cannot be used with --surgery", {"--surgery", "--index", "1"});
  expect_refused(run, 2, "--tokens cannot be used with --surgery", {"--surgery", "--tokens", "3,4"});
  expect_refused(run, 2, "is not a run folder", {"--surgery", "--with", path("none")});
  expect_refused(palindrome, 2, "task.name = palindrome has no associations", {"--surgery"});
}

TEST_F(Inspect, WhatIsNoRun) {
  fs::create_directory(path("empty"));
  expect_refused(path("empty"), 2, "is not a run folder: it has no config.yaml");
  expect_refused(path("none"), 2, "is not a run folder: it has no config.yaml");
}

TEST_F(Inspect, BadInput) {
  const std::string run = train("kda");
  expect_refused(run, 2, "the task has 33 tokens, but the model was trained with 17", {"--task.vocab", "32"});
  expect_refused(run, 2, "task.length = 2 must be at least 4 for mqar", {"--length", "2"});
  expect_refused(run, 2, "unknown option '--task.mqar.pears'; did you mean '--task.mqar.pairs'?",
                 {"--task.mqar.pears=3"});
  expect_refused(run, 2, "--most-tokens", {"--most-tokens", "100000"});
  expect_refused(run, 2, "--index", {"--index", "-1"});
  expect_refused(run, 2, "--examples", {"--examples", "0"});

  const std::string yaml = read_file(run + "/config.yaml");
  const auto with_layers = [&](const std::string& layers) {
    std::string changed = yaml;
    changed.replace(changed.find("layers: 2"), 9, "layers: " + layers);
    write_file(run + "/config.yaml", changed);
  };
  with_layers("3");
  expect_refused(run, 1, "there is no tensor 'model.layer2.");
  with_layers("1");
  expect_refused(run, 1, "tensor 'model.layer1.");
  write_file(run + "/config.yaml", yaml);
  fs::resize_file(run + "/checkpoint/best.safetensors", 1000);
  expect_refused(run, 1, "best.safetensors", {"--checkpoint", "best"});
  fs::remove_all(run + "/checkpoint");
  expect_refused(run, 2, "has no checkpoint yet");
}

}  // namespace
}  // namespace klab
