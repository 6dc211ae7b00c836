// SPDX-License-Identifier: Apache-2.0
// Pages of studies that were never run, with results made up so that the verdicts are known.
#include "experiments/study/study_page.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

#include "core/base/text.h"
#include "experiments/study/support.h"

namespace klab {
namespace {

using Texts = std::vector<std::string>;
using Values = std::vector<double>;

// Five seeds each that a permutation test can tell apart (2 of 252 arrangements), or not.
const Values kLow = {0.10, 0.11, 0.12, 0.13, 0.14}, kHigh = {0.90, 0.91, 0.92, 0.93, 0.94},
             kNearHigh = {0.901, 0.909, 0.921, 0.929, 0.941}, kWide = {0.1, 0.9, 0.3, 0.7, 0.5},
             kWideToo = {0.2, 0.95, 0.25, 0.6, 0.4};

class StudyPage : public testing::Test {
 protected:
  StudyPage() {
    study_.name = "question";
    study_.config.claims = {{{"better", "kda"}, {"than", "gdn"}}};
    study_.config.margin = 0.05;
    study_.search.emplace_back();
    study_.provenance = {"klab 1 commit abc", "machine: M", "command: ./klab study question.yaml"};
  }

  // Runs of a mixer at a length with these test results, for the seeds 2, 3, ...; `reached` are their steps to 90 %, 0:
  // not within 400 steps.
  void add_pattern(int64_t length, const Value& pattern, const Values& values, const Values& reached = {}) {
    for (size_t i = 0; i < values.size(); ++i) {
      RunSummary run;
      run.folder = folder_ / std::to_string(study_.measured.size());
      run.config = {{"train.steps", 400},       {"task.name", "mqar"}, {"task.length", length},
                    {"model.pattern", pattern}, {"train.lr", 0.01},    {"train.seed", int64_t(i) + 2}};
      run.record.state = RunState::finished;
      run.record.step = 400;
      run.record.evaluated = run.record.tested = true;
      run.record.test = run.record.best_test = {.loss = values[i], .acc_tok = values[i], .acc_seq = values[i]};
      std::filesystem::create_directories(run.folder);
      std::string metrics = "step,split,loss,acc_tok,acc_seq\n";
      for (const int step : {100, 200, 300, 400}) {
        const bool there = i < reached.size() && reached[i] > 0 && step >= reached[i];
        metrics += fmt::format("{},validation,1,{},0\n", step, there ? 0.95 : 0.1);
      }
      std::ofstream(run.folder + "/metrics.csv") << metrics;
      study_.measured.push_back(std::move(run));
    }
  }
  void add(int64_t length, const std::string& mixer, const Values& values, const Values& reached = {}) {
    add_pattern(length, Value::array({mixer}), values, reached);
  }
  RunSummary& last() { return study_.measured.back(); }
  void diverge(RunSummary& run) {
    run.record.state = RunState::diverged;
    run.record.tested = false;
  }

  std::string page() const { return join(study_page(study_, judge_study(study_)), "\n"); }
  Texts counts() const { return verdict_counts(judge_study(study_)); }

  // The cells of the row of a length in the page's tables: 0: primary, 1: solved, 2: steps, 3: chosen.
  static Texts row_in(const Texts& lines, int64_t length, size_t table) {
    std::vector<Texts> rows;
    for (const std::string& line : lines) {
      if (line.starts_with(fmt::format("| mqar | {} |", length))) rows.push_back(split(line.substr(1), '|'));
    }
    EXPECT_EQ(rows.size(), 4u);
    return rows.size() > table ? rows[table] : Texts(9);
  }
  Texts row(int64_t length, size_t table) const {
    return row_in(study_page(study_, judge_study(study_)), length, table);
  }

  Folder folder_;
  Study study_;
};

TEST_F(StudyPage, CountsEveryVerdict) {
  add(16, "kda", kHigh);
  add(16, "gdn", kLow);
  add(32, "kda", kLow);
  add(32, "gdn", kHigh);
  add(64, "kda", kHigh);
  add(64, "gdn", kNearHigh);
  add(128, "kda", kWide);
  add(128, "gdn", kWideToo);
  const std::string line =
      "kda above gdn: held in 1, reversed in 1, equal within the margin in 1, not decided in 1 of 4 cells.";
  EXPECT_EQ(counts(), Texts{line});
  EXPECT_CONTAINS(page(), "\n- " + line + "\n");
  EXPECT_CONTAINS(row(16, 0)[5], "held (p = .0");
  EXPECT_CONTAINS(row(32, 0)[5], "reversed (p = .0");
  EXPECT_EQ(row(64, 0)[5], "equal within 5 points");
  EXPECT_CONTAINS(row(128, 0)[5], "not decided: ");
}

TEST_F(StudyPage, TheWordsTurnWithTheData) {
  for (const bool turned : {false, true}) {
    study_.measured.clear();
    add(16, "kda", turned ? kLow : kHigh, turned ? Values{} : Values{100, 100, 100, 200, 200});
    add(16, "gdn", turned ? kHigh : kLow, turned ? Values{100, 100, 100, 200, 200} : Values{});
    const std::string word = turned ? "reversed" : "held", sign = turned ? "-" : "+";
    EXPECT_EQ(counts(), Texts{"kda above gdn: " + word + " in 1 of 1 cell."});
    const Texts primary = row(16, 0), steps = row(16, 2);
    EXPECT_EQ(primary[2].substr(0, 6), turned ? "12.0 [" : "92.0 [");
    EXPECT_EQ(primary[3].substr(0, 6), turned ? "92.0 [" : "12.0 [");
    EXPECT_EQ(primary[4].substr(0, 7), sign + "80.0 [");
    EXPECT_TRUE(primary[5].starts_with(word)) << primary[5];
    EXPECT_EQ(steps[turned ? 3 : 2], "100 (5 of 5)");
    EXPECT_EQ(steps[turned ? 2 : 3], "not reached (0 of 5)");
    EXPECT_TRUE(steps[4].starts_with(word)) << steps[4];
  }
}

// Whatever the data, a row's means, difference, interval and verdict agree with one another and with the counts.
TEST_F(StudyPage, NoRowContradictsItself) {
  const std::vector<Values> samples = {kLow, kHigh, kNearHigh, kWide, kWideToo, {0.12, 0.5, 0.9, 0.91, 0.95}};
  int64_t length = 1;
  for (const Values& x : samples) {
    for (const Values& y : samples) {
      add(length, "kda", x);
      add(length, "gdn", y);
      ++length;
    }
  }
  study_.config.alpha = 0.5;  // so that some of many cells are decided
  std::map<std::string, int> seen;
  const StudyVerdicts verdicts = judge_study(study_);
  const Texts lines = study_page(study_, verdicts);
  for (int64_t at = 1; at < length; ++at) {
    const Texts cells = row_in(lines, at, 0);
    const double kda = std::stod(cells[2]), gdn = std::stod(cells[3]), difference = std::stod(cells[4]);
    EXPECT_NEAR(difference, kda - gdn, 0.11) << at;
    const std::string word = split(cells[5], ' ').front();
    ++seen[word];
    if (word == "held") {
      EXPECT_GT(difference, 0) << at;
    }
    if (word == "reversed") {
      EXPECT_LT(difference, 0) << at;
    }
    if (word == "equal") {
      EXPECT_LT(std::abs(difference), 5) << at;
    }
    for (const size_t mean : {2, 3}) {  // "12.0 [3.5, 30.1]"
      const Texts ends = split(cells[mean].substr(cells[mean].find('[') + 1), ',');
      EXPECT_LE(std::stod(ends[0]), std::stod(cells[mean])) << cells[mean];
      EXPECT_GE(std::stod(ends[1]), std::stod(cells[mean])) << cells[mean];
    }
  }
  EXPECT_GT(seen["held"], 0);
  EXPECT_GT(seen["reversed"], 0);
  const std::string line = verdict_counts(verdicts)[0];
  EXPECT_CONTAINS(line, fmt::format("held in {}, reversed in {}", seen["held"], seen["reversed"]));
  EXPECT_CONTAINS(line, fmt::format("not decided in {} of 36 cells.", seen["not"]));
}

TEST_F(StudyPage, SmallerLossesAreBetter) {
  study_.config.metric = "test_loss";
  add(16, "kda", kLow);
  add(16, "gdn", kHigh);
  EXPECT_EQ(counts(), Texts{"kda above gdn: held in 1 of 1 cell."});
  EXPECT_EQ(row(16, 0)[2].substr(0, 8), "0.1200 [");
  EXPECT_EQ(row(16, 0)[4].substr(0, 9), "-0.8000 [");
  EXPECT_CONTAINS(page(), "`test_loss`: mean over seeds");
  EXPECT_CONTAINS(page(), "A claim holds if the loss is smaller.");
  EXPECT_CONTAINS(page(), "lies within 0.05 nats");
  study_.config.metric = "test_acc_tok";
  EXPECT_FALSE(contains(page(), "if the loss is smaller"));
}

TEST_F(StudyPage, IntervalsWithoutEndsAreLeftOut) {
  for (const size_t seeds : {2, 3}) {  // no arrangement of so few is rare enough
    study_.measured.clear();
    add(16, "kda", Values(kHigh.begin(), kHigh.begin() + static_cast<ptrdiff_t>(seeds)));
    add(16, "gdn", Values(kLow.begin(), kLow.begin() + static_cast<ptrdiff_t>(seeds)));
    EXPECT_EQ(row(16, 0)[4], "+80.0");
    EXPECT_FALSE(contains(page(), "inf")) << page();
    EXPECT_FALSE(contains(page(), "nan")) << page();
  }
}

TEST_F(StudyPage, OneSeedIsNoMeasurement) {
  add(16, "kda", {0.9});
  add(16, "gdn", kLow);
  EXPECT_EQ(counts(), Texts{"kda above gdn: not measured in 1 of 1 cell."});
  EXPECT_EQ(row(16, 0)[2], "90.0");
  EXPECT_EQ(row(16, 0)[4], "-");
  EXPECT_EQ(row(16, 0)[5], "not measured");
  study_.measured.clear();
  add(16, "gdn", kLow);
  study_.config.claims = {{{"better", "kda"}, {"than", "gdn"}}};
  EXPECT_EQ(counts(), Texts{"kda above gdn: not measured in 1 of 1 cell."}) << "kda was not run at all";
  EXPECT_FALSE(contains(page(), "nan")) << page();
}

TEST_F(StudyPage, SolvedRunsAndStepsAreCounted) {
  study_.config.solved_at = 0.9;
  add(16, "kda", kHigh, {100, 200, 300, 0, 300});
  add(16, "gdn", kLow, {400, 400, 0, 0, 0});
  EXPECT_EQ(row(16, 1)[2], "5 of 5 [48, 100 %]");
  EXPECT_EQ(row(16, 1)[3], "0 of 5 [0, 52 %]");
  EXPECT_TRUE(row(16, 1)[4].starts_with("held")) << row(16, 1)[4];
  EXPECT_EQ(row(16, 2)[2], "300 (4 of 5)");
  EXPECT_EQ(row(16, 2)[3], "not reached (2 of 5)");
  EXPECT_CONTAINS(page(), "Runs that solved the task (`best_test_acc_seq` of at least 0.9)");
  EXPECT_CONTAINS(page(), "Steps until `acc_tok` on validation data reached 0.9");
  study_.config.solved_at = 0.925;
  EXPECT_EQ(row(16, 1)[2].substr(0, 6), "2 of 5");
  study_.config.reach_at = 0.96;
  EXPECT_EQ(row(16, 2)[2], "not reached (0 of 5)");
}

TEST_F(StudyPage, RunsThatDivergedCount) {
  add(16, "kda", kHigh);
  diverge(last());
  add(16, "gdn", kLow);
  EXPECT_EQ(row(16, 0)[2].substr(0, 4), "73.2") << "the mean of 90, 91, 92, 93 and 0";
  study_.config.solved_at = 0.9;
  EXPECT_EQ(row(16, 1)[2].substr(0, 6), "4 of 5");
  study_.config.metric = "test_loss";
  EXPECT_EQ(row(16, 0)[2].substr(0, 6), "0.9150");
}

TEST_F(StudyPage, PairsAreOfOneSeed) {
  study_.config.paired = true;
  study_.config.metric = "test_loss";
  study_.config.alpha = 0.1;  // 6 pairs: 2 of 64 arrangements
  // gdn is worse by 0.1 throughout: as pairs, that stands out against the differences among seeds.
  add(16, "kda", {0.1, 0.3, 0.2, 0.5, 0.9, 0.4, 0.7});
  add(16, "gdn", {0.2, 0.4, 0.3, 0.6, 1.0, 0.5, 0.8});
  EXPECT_EQ(counts(), Texts{"kda above gdn: held in 1 of 1 cell."});
  EXPECT_CONTAINS(page(), "permutation test of differences by seed");
  // A missing run and one that diverged leave their pairs out, and shift no other.
  study_.measured.pop_back();
  EXPECT_EQ(counts(), Texts{"kda above gdn: held in 1 of 1 cell."});
  EXPECT_EQ(row(16, 0)[4].substr(0, 7), "-0.1000");
  diverge(study_.measured[1]);
  EXPECT_EQ(row(16, 0)[4].substr(0, 7), "-0.1000");
  study_.config.paired = false;
  EXPECT_NE(counts(), Texts{"kda above gdn: held in 1 of 1 cell."});
}

TEST_F(StudyPage, IncompleteStudiesSaySo) {
  add(16, "kda", kHigh);
  add(16, "gdn", kLow);
  EXPECT_FALSE(contains(page(), "Incomplete"));
  study_.out_of_time = true;
  EXPECT_CONTAINS(page(), "**Incomplete**: the time limit was reached; repeating the command continues.");
  EXPECT_CONTAINS(page(), "## Verdicts") << "of what was measured";
  study_.measured.clear();
  EXPECT_CONTAINS(page(), "**Incomplete**");
  EXPECT_FALSE(contains(page(), "## Verdicts"));
  EXPECT_EQ(counts(), Texts{}) << "nothing is over yet";
  EXPECT_CONTAINS(page(), "## How to repeat it");
}

TEST_F(StudyPage, StatesWhatWasAsked) {
  study_.config.question = "Which one?";
  study_.config.seeds = 5;
  add(16, "kda", kHigh);
  add(16, "gdn", kLow);
  EXPECT_TRUE(page().starts_with("Which one?\n"));
  EXPECT_CONTAINS(page(), "Primary outcome: `test_acc_tok` of the last step, 5 new seeds");
  EXPECT_CONTAINS(page(), "lies within 5 points");
  EXPECT_CONTAINS(page(), "distributions over seeds that differ by a shift");
  EXPECT_CONTAINS(page(), "a probability of at most 0.05");
  EXPECT_CONTAINS(page(), "`train.lr` was chosen per cell and mixer by `best_acc_tok`");
  EXPECT_CONTAINS(page(), "\nChosen `train.lr`:\n");
  EXPECT_EQ(row(16, 3), (Texts{"mqar", "16", "0.01", "0.01", ""}));
  study_.config.assume = "bounded";
  EXPECT_CONTAINS(page(), "without any assumption on the distributions");
  study_.config.margin = 0;
  EXPECT_CONTAINS(page(), "Equality is not asked.");
  study_.search.clear();
  EXPECT_FALSE(contains(page(), "chosen per cell")) << "there was no search";
  EXPECT_CONTAINS(page(), "`train.lr` is given by the file; nothing was chosen.");
  EXPECT_FALSE(contains(page(), "\nChosen "));
}

TEST_F(StudyPage, TheCommandIsInABlock) {
  add(16, "kda", kHigh);
  add(16, "gdn", kLow);
  EXPECT_CONTAINS(page(), "\n```\nklab 1 commit abc\nmachine: M\ncommand: ./klab study question.yaml\n```");
}

TEST_F(StudyPage, ClaimsOnListsAndSeveralClaims) {
  const Value hybrid = Value::array({"kda", "kda", "mla"}), rope = Value::array({"kda", "kda", "mla_rope"});
  study_.config.claims = {{{"better", "kda, kda, mla"}, {"than", "kda, kda, mla_rope"}},
                          {{"better", "gdn"}, {"than", "[kda, kda, mla]"}}};
  add_pattern(16, hybrid, kHigh);
  add_pattern(16, rope, kLow);
  add(16, "gdn", kLow);
  EXPECT_EQ(counts(), (Texts{"kda, kda, mla above kda, kda, mla_rope: held in 1 of 1 cell.",
                             "gdn above [kda, kda, mla]: reversed in 1 of 1 cell."}));
  EXPECT_CONTAINS(page(), "| task | length | kda, kda, mla | kda, kda, mla_rope | gdn | ");
  EXPECT_TRUE(row(16, 0)[6].starts_with("held"));
  EXPECT_TRUE(row(16, 0)[8].starts_with("reversed"));
}

}  // namespace
}  // namespace klab
