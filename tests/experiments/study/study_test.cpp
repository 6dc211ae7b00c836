// SPDX-License-Identifier: Apache-2.0
// Studies whose runs are over before they begin: their records are written here, so that nothing is trained.
// tests/experiments/cli/study_test.cpp trains.
#include "experiments/study/study.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <set>

#include "core/base/csv.h"
#include "core/base/text.h"
#include "experiments/study/support.h"

namespace klab {
namespace {

namespace fs = std::filesystem;
using Texts = std::vector<std::string>;
using Values = std::vector<double>;
using Runs = std::vector<const RunSummary*>;

// A run that a test forgot would be given to a worker: this program, which would begin all tests again.
[[maybe_unused]] const bool no_worker = [] {
  std::ifstream file("/proc/self/cmdline");
  const std::string words{std::istreambuf_iterator<char>(file), {}};
  if (contains(words, std::string("sweep-worker") + '\0')) ::_exit(3);
  return true;
}();

RunRecord finished(double acc) {
  RunRecord record;
  record.state = RunState::finished;
  record.step = 8;
  record.evaluated = record.tested = true;
  record.last = record.best = record.test = record.best_test = {.loss = 2 - acc, .acc_tok = acc, .acc_seq = acc};
  return record;
}

RunRecord diverged(bool evaluated) {
  RunRecord record = finished(0.5);
  record.state = RunState::diverged;
  record.evaluated = evaluated;
  record.tested = false;
  return record;
}

class StudyTest : public testing::Test {
 protected:
  using Record = std::function<RunRecord(const RunConfig&)>;

  // Writes the records of the search, and of three seeds after its last one at every setting.
  void prepare(const StudyFile& file, const Record& search, const Record& seeds) const {
    const std::string work = folder_ / "out/runs-question";
    const int64_t last = file.search.configs.back().train.seed;
    for (RunConfig config : file.search.configs) {
      write_record(begin_run(work + "/search", config), search(config));
      if (config.train.seed != last) continue;
      for (config.train.seed = last + 1; config.train.seed <= last + 3; ++config.train.seed) {
        write_record(begin_run(work + "/seeds", config), seeds(config));
      }
    }
  }

  Study run(const StudyFile& file) const {
    StudyOptions options;
    options.out = folder_ / "out";
    options.command_line = "./klab study question.yaml";
    options.quiet = true;
    return run_study(file, options);
  }

  // "kda 0.01 2" for every run.
  static Texts names_of(const std::vector<RunSummary>& runs) {
    Texts names;
    for (const RunSummary& one : runs) {
      names.push_back(join(
          {short_text(one.field("model.pattern")), text_of(one.field("train.lr")), text_of(one.field("train.seed"))},
          " "));
    }
    return names;
  }

  Folder folder_;
};

// In the search, kda does best at 0.01 by its best accuracy and at 0.001 by its last, gdn the other way round; on test
// data, which must not count, everything is reversed.
RunRecord searched(const RunConfig& config) {
  const bool large = config.train.lr > 5e-3, best = large == (mixer_of(config) == "kda");
  RunRecord record = finished(0.5);
  record.best = {.loss = 1, .acc_tok = best ? 0.9 : 0.8, .acc_seq = 0};
  record.last = {.loss = best ? 3.0 : 1.0, .acc_tok = best ? 0.1 : 0.7, .acc_seq = 0};
  record.test = record.best_test = {.loss = best ? 2.0 : 0.1, .acc_tok = best ? 0.0 : 1.0, .acc_seq = 0};
  return record;
}

TEST_F(StudyTest, ChoosesForEveryMixerOnValidationData) {
  const StudyFile file = study_file(folder_, study_text("  seeds: 2\n"));
  prepare(file, searched, [](const RunConfig&) { return finished(0.5); });
  const Study study = run(file);
  EXPECT_EQ(names_of(study.search), (Texts{"kda 0.001 1", "kda 0.01 1", "gdn 0.001 1", "gdn 0.01 1"}));
  EXPECT_EQ(names_of(study.measured), (Texts{"kda 0.01 2", "gdn 0.001 2", "kda 0.01 3", "gdn 0.001 3"}))
      << "new seeds, and all mixers of a seed before the next one";
  EXPECT_FALSE(study.out_of_time);
  EXPECT_EQ(study.name, "question");
}

TEST_F(StudyTest, ChoosesByTheAskedResult) {
  for (const std::string by : {"acc_tok", "loss"}) {
    const StudyFile file = study_file(folder_, study_text("  seeds: 2\n  choose_by: " + by + "\n"));
    fs::remove_all(folder_ / "out");
    prepare(file, searched, [](const RunConfig&) { return finished(0.5); });
    EXPECT_EQ(names_of(run(file).measured), (Texts{"kda 0.001 2", "gdn 0.01 2", "kda 0.001 3", "gdn 0.01 3"})) << by;
  }
}

TEST_F(StudyTest, NewSeedsBeginAfterThoseOfTheSearch) {
  const StudyFile file = study_file(folder_, study_text("  seeds: 3\n"), {{"train.seed", 7, "--seed"}});
  prepare(file, searched, [](const RunConfig&) { return finished(0.5); });
  std::set<std::string> seeds;
  for (const RunSummary& one : run(file).measured) seeds.insert(text_of(one.field("train.seed")));
  EXPECT_EQ(seeds, (std::set<std::string>{"8", "9", "10"}));
}

TEST_F(StudyTest, WithoutAChoiceNothingIsSearched) {
  const StudyFile file = study_file(folder_, study_text("  seeds: 2\n", "[1e-2]") + "seeds: [1, 4]\n");
  prepare(file, searched, [](const RunConfig&) { return finished(0.5); });
  fs::remove_all(folder_ / "out/runs-question/search");
  const Study study = run(file);
  EXPECT_TRUE(study.search.empty());
  EXPECT_EQ(names_of(study.measured), (Texts{"kda 0.01 5", "gdn 0.01 5", "kda 0.01 6", "gdn 0.01 6"}));
  EXPECT_FALSE(fs::exists(folder_ / "out/runs-question/search"));
  EXPECT_FALSE(fs::exists(folder_ / "out/search.csv"));
}

TEST_F(StudyTest, WritesItsFileAndItsResults) {
  const StudyFile file = study_file(folder_, study_text("  seeds: 2\n"));
  prepare(file, searched, [](const RunConfig& config) { return finished(mixer_of(config) == "kda" ? 0.75 : 0.25); });
  run(file);
  EXPECT_EQ(read_file(folder_ / "out/study.yaml"), file.text);
  const CsvTable search = read_csv(folder_ / "out/search.csv"), results = read_csv(folder_ / "out/results.csv");
  EXPECT_EQ(search.rows.size(), 4u);
  EXPECT_EQ(Texts(results.columns.begin(), results.columns.begin() + 6),
            (Texts{"run", "task.name", "task.length", "model.pattern", "train.lr", "train.seed"}));
  ASSERT_EQ(results.rows.size(), 4u);
  EXPECT_EQ(Texts(results.rows[1].begin() + 1, results.rows[1].begin() + 6),
            (Texts{"copy", "9", "[gdn]", "0.001", "2"}));
  EXPECT_EQ(results.rows[1][results.column("test_acc_tok")], "0.250000");
  EXPECT_EQ(results.comments.back(), "command: ./klab study question.yaml");
}

TEST_F(StudyTest, AFolderIsOfOneFile) {
  const StudyFile file = study_file(folder_, study_text("  seeds: 2\n"));
  prepare(file, searched, [](const RunConfig&) { return finished(0.5); });
  const Texts before = names_of(run(file).measured);
  EXPECT_EQ(names_of(run(file).measured), before) << "the same file continues";
  const StudyFile other = study_file(folder_, study_text("  seeds: 3\n"));
  const std::string message = message_of<UsageError>([&] { run(other); });
  EXPECT_CONTAINS(message, "out/study.yaml' is of another study than question");
  EXPECT_CONTAINS(message, "choose another --out");
  EXPECT_EQ(read_file(folder_ / "out/study.yaml"), file.text) << "nothing was changed";
}

TEST_F(StudyTest, ASettingThatDivergedIsNotChosen) {
  const StudyFile file = study_file(folder_, study_text("  seeds: 2\n"));
  const auto best_diverges = [](const RunConfig& config) {
    RunRecord record = searched(config);
    if (config.train.lr == 1e-2) {
      record = finished(1);
      record.state = RunState::diverged;
    }
    return record;
  };
  prepare(file, best_diverges, [](const RunConfig&) { return finished(0.5); });
  EXPECT_EQ(names_of(run(file).measured), (Texts{"kda 0.001 2", "gdn 0.001 2", "kda 0.001 3", "gdn 0.001 3"}));
}

TEST_F(StudyTest, TheFileIsComplete) {
  write_file(folder_ / "base.yaml", "task: {name: copy, length: 9, vocab: 8}\n");
  const StudyFile file = study_file(folder_,
                                    "base: {extends: base.yaml}\ngrid:\n  model.pattern: [kda, gdn]\nstudy:\n"
                                    "  claims: [{better: kda, than: gdn}]\n");
  EXPECT_CONTAINS(message_of<UsageError>([&] { run(file); }), "question: a study file must be complete");
  EXPECT_FALSE(fs::exists(folder_ / "out/study.yaml"));
}

TEST_F(StudyTest, RunsThatDivergedAreResults) {
  const StudyFile file = study_file(folder_, study_text("  seeds: 3\n", "[1e-2]"));
  prepare(file, searched, [](const RunConfig& config) {
    if (mixer_of(config) == "gdn") return finished(0.5);
    if (config.train.seed == 2) return diverged(/*evaluated=*/false);
    return config.train.seed == 3 ? diverged(/*evaluated=*/true) : finished(0.75);
  });
  const Study study = run(file);
  EXPECT_EQ(study.measured.size(), 6u);
  const std::vector<StudyCell> cells = cells_of(study);
  ASSERT_EQ(cells.size(), 1u);
  EXPECT_EQ(outcomes(cells[0].of("kda"), "test_acc_tok"), (Values{0, 0, 0.75}));
  EXPECT_EQ(outcomes(cells[0].of("gdn"), "test_acc_tok"), (Values{0.5, 0.5, 0.5}));
}

RunSummary summary(const RunRecord& record, const std::string& task = "copy", int64_t length = 9,
                   const Value& pattern = Value::array({"kda"})) {
  RunSummary run;
  run.config = {{"task.name", task}, {"task.length", length}, {"model.pattern", pattern}};
  run.record = record;
  return run;
}

TEST(Outcomes, OfRunsThatDivergedAreZeroOrLeftOut) {
  const RunSummary good = summary(finished(0.25)), bad = summary(diverged(true)), early = summary(diverged(false));
  const Runs runs = {&good, &bad, &early};
  EXPECT_EQ(outcomes(runs, "test_acc_tok"), (Values{0.25, 0, 0}));
  EXPECT_EQ(outcomes(runs, "best_test_acc_seq"), (Values{0.25, 0, 0}));
  EXPECT_EQ(outcomes(runs, "test_loss"), Values{1.75}) << "there is no worst loss";
  EXPECT_EQ(outcomes({}, "test_loss"), Values{});
}

TEST(CellsOf, AreInTheFilesOrderWithTheirRuns) {
  const Value kda = Value::array({"kda"}), hybrid = Value::array({"kda", "mla"});
  Study study;
  study.config.cells = {"task.name", "task.length"};
  for (const double seed : {0.1, 0.2}) {
    study.measured.push_back(summary(finished(seed), "mqar", 64, hybrid));
    study.measured.push_back(summary(finished(seed + 0.5), "mqar", 64, kda));
    study.measured.push_back(summary(finished(seed + 0.7), "copy", 9, kda));
    study.measured.push_back(summary(finished(seed + 0.6), "mqar", 9, kda));
  }
  const std::vector<StudyCell> cells = cells_of(study);
  ASSERT_EQ(cells.size(), 3u);
  EXPECT_EQ(short_text(cells[0].values), "mqar, 64");
  EXPECT_EQ(short_text(cells[1].values), "copy, 9");
  EXPECT_EQ(short_text(cells[2].values), "mqar, 9");
  EXPECT_EQ(cells[0].values, (std::vector<Value>{"mqar", 64}));
  ASSERT_EQ(cells[0].runs.size(), 2u);
  EXPECT_EQ(cells[0].runs[0].first, "kda, mla");
  EXPECT_EQ(cells[0].runs[1].first, "kda");
  EXPECT_EQ(outcomes(cells[0].of("kda, mla"), "test_acc_tok"), (Values{0.1, 0.2}));
  EXPECT_EQ(outcomes(cells[0].of("[kda, mla]"), "test_acc_tok"), (Values{0.1, 0.2})) << "with brackets or without";
  EXPECT_EQ(outcomes(cells[1].of("kda"), "test_acc_tok"), (Values{0.7 + 0.1, 0.7 + 0.2}));
  EXPECT_TRUE(cells[1].of("kda, mla").empty());
}

TEST(ShortText, LeavesTheBracketsOut) {
  EXPECT_EQ(short_text(Value::array({"kda"})), "kda");
  EXPECT_EQ(short_text(Value::array({"kda", "kda", "mla"})), "kda, kda, mla");
  EXPECT_EQ(short_text(64), "64");
  EXPECT_EQ(short_text("mqar"), "mqar");
}

class StepsTo : public testing::Test {
 protected:
  Time steps(const std::string& rows, const std::string& metric, double threshold) const {
    write_file(folder_ / "metrics.csv", "step,split,loss,acc_tok,acc_seq\n" + rows);
    RunSummary run = summary(finished(0.5));
    run.folder = folder_.path();
    run.record.step = 400;
    return steps_to(run, metric, threshold);
  }
  Folder folder_;
};

TEST_F(StepsTo, IsTheFirstEvaluationThatReachedIt) {
  const std::string rows =
      "100,train,1,0.95,0.9\n100,validation,1,0.5,0.1\n200,validation,1,0.9,0.2\n300,validation,1,0.4,0.3\n"
      "400,validation,1,0.99,0.7\n200,test,1,1,1\n400,test,1,1,1\n";
  const Time tokens = steps(rows, "acc_tok", 0.9);
  EXPECT_TRUE(tokens.reached);
  EXPECT_EQ(tokens.value, 200) << "validation data, exactly at the threshold";
  const Time sequences = steps(rows, "acc_seq", 0.6);
  EXPECT_TRUE(sequences.reached);
  EXPECT_EQ(sequences.value, 400);
  const Time never = steps(rows, "acc_seq", 0.9);
  EXPECT_FALSE(never.reached);
  EXPECT_EQ(never.value, 400) << "the end of the run";
}

TEST_F(StepsTo, IsNotKnownOfARunWithoutEvaluations) {
  const Time never = steps("", "acc_tok", 0);
  EXPECT_FALSE(never.reached);
  EXPECT_EQ(never.value, 400);
}

TEST_F(StepsTo, OfARunThatDivergedAreAllItsSteps) {
  write_file(folder_ / "metrics.csv", "step,split,loss,acc_tok,acc_seq\n100,validation,1,0.5,0.1\n");
  RunSummary run = summary(diverged(true));
  run.folder = folder_.path();
  run.record.step = 150;
  run.config["train.steps"] = 400;
  const Time never = steps_to(run, "acc_tok", 0.9);
  EXPECT_FALSE(never.reached);
  EXPECT_EQ(never.value, 400);
}

}  // namespace
}  // namespace klab
