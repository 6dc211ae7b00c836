// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/verify.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>

#include "core/base/csv.h"
#include "experiments/study/support.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

void watch_nothing(RunRecord&, const TrainStatus*, bool) {}

// A study of two mixers and two seeds, which is trained once, in this process. Every test has a copy of its results.
class Verify : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    threads_ = at::get_num_threads();
    at::set_num_threads(1);
    whole_ = std::make_unique<Folder>();
    const StudyFile file = study_file(*whole_, study_text("  seeds: 2\n", "[1e-2]"));
    for (RunConfig config : file.search.configs) {
      for (config.train.seed = 2; config.train.seed <= 3; ++config.train.seed) {
        const RunFolder run = begin_run(*whole_ / "out/runs-question/seeds", config);
        ASSERT_EQ(train_run(run, {}, watch_nothing).state, RunState::finished);
      }
    }
    StudyOptions options;
    options.out = *whole_ / "out";
    options.quiet = true;
    ASSERT_EQ(run_study(file, options).measured.size(), 4u);
  }
  static void TearDownTestSuite() {
    whole_.reset();
    at::set_num_threads(threads_);
  }

  void SetUp() override {
    for (const std::string name : {"study.yaml", "results.csv"}) {
      fs::copy_file(*whole_ / ("out/" + name), folder_ / name);
    }
  }

  // Changes the results of the rows for which `wanted` holds.
  template <class Wanted, class Change>
  void tamper(const Wanted& wanted, const std::string& column, const Change& change) const {
    CsvTable table = read_csv(folder_ / "results.csv");
    for (auto& row : table.rows) {
      std::string& cell = row[table.column(column)];
      if (wanted(row[table.column("model.pattern")], row[table.column("train.seed")])) cell = change(cell);
    }
    write_file(folder_ / "results.csv", table.text());
  }

  void move_to_another_machine() const {
    CsvTable table = read_csv(folder_ / "results.csv");
    for (std::string& line : table.comments) {
      if (line.starts_with("machine: ")) line = "machine: another one";
    }
    write_file(folder_ / "results.csv", table.text());
  }

  std::vector<VerifiedRun> verify(int64_t count = 4, uint64_t seed = 1) const {
    return verify_study(folder_.path(), count, seed, /*quiet=*/true);
  }

  static int64_t passed(const std::vector<VerifiedRun>& runs) {
    return std::count_if(runs.begin(), runs.end(), [](const VerifiedRun& run) { return run.passed(); });
  }

  static std::string added(const std::string& cell, double by) { return fmt::format("{:.6f}", std::stod(cell) + by); }

  static std::unique_ptr<Folder> whole_;
  static int threads_;
  Folder folder_;
};
std::unique_ptr<Folder> Verify::whole_;
int Verify::threads_ = 0;

const auto every = [](const std::string&, const std::string&) { return true; };
const auto kda_2 = [](const std::string& pattern, const std::string& seed) {
  return pattern == "[kda]" && seed == "2";
};
const auto kda = [](const std::string& pattern, const std::string&) { return pattern == "[kda]"; };

TEST_F(Verify, EveryRunIsRepeatedInEveryDigit) {
  const std::vector<VerifiedRun> runs = verify();
  ASSERT_EQ(runs.size(), 4u);
  std::set<std::string> names;
  for (const VerifiedRun& run : runs) {
    names.insert(run.name);
    EXPECT_TRUE(run.same_origin) << run.machine;
    EXPECT_TRUE(run.passed()) << run.name;
    ASSERT_EQ(run.metrics.size(), 6u);
    for (const VerifiedMetric& metric : run.metrics) {
      EXPECT_TRUE(metric.equal) << metric.name << " " << metric.committed << " " << metric.repeated;
      EXPECT_TRUE(metric.within) << metric.name;
      EXPECT_LE(metric.low, metric.committed);
      EXPECT_GE(metric.high, metric.committed);
    }
    EXPECT_LT(run.metrics[0].low, run.metrics[0].high) << "of both seeds";
  }
  EXPECT_EQ(names.size(), 4u) << "no run twice";
  EXPECT_EQ(names.count("task.name=copy task.length=9 model.pattern=[kda] train.lr=0.01 seed=2"), 1u);
}

TEST_F(Verify, ADigitMoreOrLessFails) {
  tamper(kda_2, "test_loss", [](const std::string& cell) { return added(cell, 1e-6); });
  const std::vector<VerifiedRun> runs = verify();
  EXPECT_EQ(passed(runs), 3);
  for (const VerifiedRun& run : runs) {
    EXPECT_EQ(run.passed(), !contains(run.name, "[kda] train.lr=0.01 seed=2")) << run.name;
    for (const VerifiedMetric& metric : run.metrics) {
      EXPECT_EQ(metric.equal, run.passed() || metric.name != "test_loss") << metric.name;
    }
  }
}

TEST_F(Verify, OnAnotherMachineSumsAreRoundedDifferently) {
  move_to_another_machine();
  for (const double by : {0.05, -0.1}) {  // above what is repeated, then below it
    for (const std::string column : {"test_acc_tok", "test_loss"}) {
      tamper(every, column, [&](const std::string& cell) { return added(cell, by); });
    }
    for (const VerifiedRun& run : verify()) {
      EXPECT_FALSE(run.same_origin);
      EXPECT_EQ(run.machine, "another one");
      EXPECT_FALSE(run.metrics[0].equal);
      EXPECT_TRUE(run.passed()) << run.name;
    }
  }
}

TEST_F(Verify, OnAnotherMachineAccuraciesStayNearTheCellsSeeds) {
  move_to_another_machine();
  tamper(kda, "test_acc_tok", [](const std::string& cell) { return added(cell, 0.7); });
  const std::vector<VerifiedRun> runs = verify();
  EXPECT_EQ(passed(runs), 2);
  for (const VerifiedRun& run : runs) EXPECT_EQ(run.passed(), contains(run.name, "[gdn]")) << run.name;
}

TEST_F(Verify, OnAnotherMachineTheRangeIsOfTheCellAlone) {
  move_to_another_machine();
  // The other mixer's seeds do not widen the range.
  tamper(every, "best_test_acc_tok", [](const std::string&) { return "0.000000"; });
  tamper(kda, "best_test_acc_tok", [](const std::string&) { return "1.000000"; });
  for (const VerifiedRun& run : verify()) {
    const VerifiedMetric& metric = run.metrics[4];
    EXPECT_EQ(metric.name, "best_test_acc_tok");
    EXPECT_EQ(metric.low, metric.high);
    EXPECT_EQ(metric.within, std::abs(metric.repeated - metric.committed) <= kVerifyTolerance);
    if (contains(run.name, "[kda]")) {
      EXPECT_FALSE(metric.within) << metric.repeated;
    }
  }
}

TEST_F(Verify, TheSeedDrawsTheRuns) {
  std::set<std::string> drawn;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const std::vector<VerifiedRun> runs = verify(1, seed);
    ASSERT_EQ(runs.size(), 1u);
    if (seed == 1) {
      EXPECT_EQ(verify(1, seed)[0].name, runs[0].name);
    }
    drawn.insert(runs[0].name);
  }
  EXPECT_GT(drawn.size(), 1u);
  EXPECT_EQ(verify(2, 1).size(), 2u);
  EXPECT_EQ(verify(100, 1).size(), 4u) << "all that there are";
}

TEST_F(Verify, OnlyRunsWithTestResultsAreRepeated) {
  for (const std::string column :
       {"test_loss", "test_acc_tok", "test_acc_seq", "best_test_loss", "best_test_acc_tok", "best_test_acc_seq"}) {
    tamper(kda, column, [](const std::string&) { return ""; });
  }
  EXPECT_EQ(verify().size(), 2u);
  tamper(every, "test_loss", [](const std::string&) { return ""; });
  EXPECT_CONTAINS(failure_of([&] { verify(); }), "results.csv' has no run with test results");
}

TEST_F(Verify, ResultsThatAreNotOfTheStudy) {
  tamper(every, "train.lr", [](const std::string&) { return "0.02"; });
  EXPECT_CONTAINS(failure_of([&] { verify(1); }), "no run of study.yaml has the keys of run ");
}

TEST_F(Verify, AFolderWithoutAStudyIsRefused) {
  fs::remove(folder_ / "results.csv");
  const auto refusal = [&] { return message_of<UsageError>([&] { verify(); }); };
  EXPECT_CONTAINS(refusal(), "'" + folder_.path() + "' is not the results of a study: it has no results.csv");
  fs::remove(folder_ / "study.yaml");
  EXPECT_CONTAINS(refusal(), "it has no study.yaml");
}

}  // namespace
}  // namespace klab
