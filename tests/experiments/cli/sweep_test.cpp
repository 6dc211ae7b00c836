// SPDX-License-Identifier: Apache-2.0
// klab sweep: from the file to results, with kills and failures.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/base/lock.h"
#include "experiments/cli/support.h"

namespace klab {
namespace {

class SweepTest : public ProgramTest {
 protected:
  // A sweep file over runs of a tenth of a second; `more` are further sections.
  std::string file(const std::string& more, int64_t steps = 30) {
    const std::string name = path("sweep.yaml");
    write_file(name, fmt::format(R"(base:
  task: {{name: mqar, length: 16, vocab: 16}}
  model: {{layers: 1, width: 16, heads: 1, head_dim: 16, pattern: [gdn]}}
  train: {{batch: 8, steps: {}, eval_every: 10, eval_examples: 16, checkpoint_every: 10, stop_at: 2}}
)",
                                 steps) +
                         more);
    return name;
  }

  // Rows of results.csv under these columns.
  static std::vector<std::string> results(const std::string& folder, const std::vector<std::string>& columns) {
    const CsvTable table = read_csv(folder + "/results.csv");
    std::vector<std::string> rows;
    for (const auto& row : table.rows) {
      std::string text;
      for (const std::string& column : columns) text += row[table.column(column)] + " ";
      rows.push_back(text);
    }
    return rows;
  }

  static std::vector<std::string> scores(const std::string& folder) {
    return results(folder, {"run", "state", "step", "loss", "acc_tok", "best_loss"});
  }
};

TEST_F(SweepTest, EveryCombinationOnceInTheFilesOrder) {
  const std::string sweep =
      file("grid:\n  model.pattern: [kda, gdn, [kda]]\n  train.lr: [1e-3, 0.001]\nseeds: [1, 2]\n");
  const Finished done = klab({"sweep", sweep, "--out", path("out"), "--threads", "1"});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_NE(done.err.find("4 runs (12 in the file"), std::string::npos) << done.err;
  EXPECT_EQ(
      results(path("out"), {"model.pattern", "train.seed", "state"}),
      (std::vector<std::string>{"[kda] 1 finished ", "[kda] 2 finished ", "[gdn] 1 finished ", "[gdn] 2 finished "}));
  const CsvTable curves = read_csv(path("out/curves.csv"));
  std::map<std::string, int> splits;
  for (const auto& row : curves.rows) ++splits[row[curves.column("split")]];
  EXPECT_EQ(splits["validation"], 4 * 3);
  EXPECT_GE(splits["test"], 4) << "of the last step, and of the best one if that is another";
  EXPECT_EQ(splits["train"], 0);
}

TEST_F(SweepTest, ASecondCallDoesOnlyWhatIsNew) {
  ASSERT_EQ(klab({"sweep", file("seeds: [1, 2]\n"), "--out", path("out"), "--threads", "1"}).status, 0);
  const auto before = scores(path("out"));
  const Finished again = klab({"sweep", file("seeds: [1, 2, 3]\n"), "--out", path("out"), "--threads", "1"});
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(again.err.find("seed=1"), std::string::npos) << again.err;
  EXPECT_NE(again.err.find("seed=3: finished"), std::string::npos) << again.err;
  auto after = scores(path("out"));
  ASSERT_EQ(after.size(), 3u);
  after.pop_back();
  EXPECT_EQ(after, before);
}

TEST_F(SweepTest, ConditionsSetSkipAndBranch) {
  const std::string sweep = file(R"(grid:
  model.pattern: [kda, gdn, mamba2]
conditions:
  - when: {model.pattern: kda}
    grid: {train.lr: [1e-3, 2e-3]}
  - when: {model: {pattern: [gdn]}}
    set: {train: {lr: 5e-3}}
  - when: {model.pattern: mamba2}
    skip: true
)");
  ASSERT_EQ(klab({"sweep", sweep, "--out", path("out")}).status, 0);
  EXPECT_EQ(results(path("out"), {"model.pattern", "train.lr"}),
            (std::vector<std::string>{"[kda] 0.001 ", "[kda] 0.002 ", "[gdn] 0.005 "}));
}

TEST_F(SweepTest, RandomDrawsAreTheSameEverywhere) {
  const std::string sweep = file(
      "random:\n  runs: 3\n  seed: 7\n  train.lr: {log_uniform: [1e-4, 1e-2]}\n  train.batch: {integer: [4, 8]}\n"
      "grid:\n  model.pattern: [kda, gdn]\n");
  ASSERT_EQ(klab({"sweep", sweep, "--out", path("a")}).status, 0);
  ASSERT_EQ(klab({"sweep", sweep, "--out", path("b")}).status, 0);
  const auto rows = results(path("a"), {"train.lr", "train.batch"});
  EXPECT_EQ(rows, results(path("b"), {"train.lr", "train.batch"}));
  ASSERT_EQ(rows.size(), 6u);
  EXPECT_EQ(std::vector<std::string>(rows.begin(), rows.begin() + 3),
            std::vector<std::string>(rows.begin() + 3, rows.end()));
  EXPECT_NE(rows[0], rows[1]);
}

TEST_F(SweepTest, KilledTimeAndAgainItEndsWithTheSameBits) {
  const std::string sweep = file(
      "grid:\n  model.pattern: [kda, gdn]\n  train.lr: [1e-4, 1e-3, 3e-3, 1e-2]\nhalving: {metric: loss, steps: [100, "
      "200], "
      "factor: 2, within: [model.pattern]}\n",
      300);
  ASSERT_EQ(klab({"sweep", sweep, "--out", path("whole"), "--threads", "1", "--workers", "1"}).status, 0);
  for (const double seconds : {0.7, 0.9, 1.1, 0.8, 1.0}) {
    klab({"sweep", sweep, "--out", path("killed"), "--threads", "1", "--workers", "2"}, SIGKILL, seconds);
  }
  const Finished last = klab({"sweep", sweep, "--out", path("killed"), "--threads", "1", "--workers", "2"});
  ASSERT_EQ(last.status, 0) << last.err;
  EXPECT_EQ(scores(path("killed")), scores(path("whole")));
  const auto states = results(path("whole"), {"state"});
  EXPECT_GT(std::count(states.begin(), states.end(), "stopped "), 0) << "halving stopped no run";
}

TEST_F(SweepTest, AFailedRunIsListedAndStopsNoOther) {
  const Finished done =
      klab({"sweep", file("grid:\n  train.lr: [1e-3, 1e30]\n  model.pattern: [gdn, kda]\n"), "--out", path("out")});
  EXPECT_EQ(done.status, 1);
  EXPECT_NE(done.err.find("diverged"), std::string::npos) << done.err;
  EXPECT_NE(done.err.find("2 of 4 runs failed"), std::string::npos) << done.err;
  EXPECT_EQ(results(path("out"), {"state"}),
            (std::vector<std::string>{"finished ", "finished ", "diverged ", "diverged "}));
}

TEST_F(SweepTest, ADeadWorkerCostsItsRunAlone) {
  // A worker is killed during a run, as by an out-of-memory killer.
  const std::string sweep = file("seeds: [1, 2, 3]\n", 1500), out = path("out");
  const std::string command = fmt::format(
      "{} sweep {} --out {} --threads 1 --workers 1 2> {} & sweep=$!; for i in $(seq 100); do sleep 0.1; "
      "ls {}/*/record.json >/dev/null 2>&1 || continue; for stat in /proc/[0-9]*/stat; do read -r pid _ _ parent _ "
      "<$stat; [ \"$parent\" = $sweep ] && kill -KILL $pid; done; break; done; wait $sweep",
      KLAB_PROGRAM, sweep, out, path("err"), out);
  const int status = std::system(fmt::format("bash -c '{}'", command).c_str());
  EXPECT_EQ(WEXITSTATUS(status), 1);
  const auto states = results(out, {"state"});
  EXPECT_EQ(std::count(states.begin(), states.end(), "failed "), 1);
  EXPECT_EQ(std::count(states.begin(), states.end(), "finished "), 2);
  EXPECT_NE(read_file(path("err")).find("signal 9"), std::string::npos) << read_file(path("err"));
  ASSERT_EQ(klab({"sweep", sweep, "--out", out, "--threads", "1"}).status, 0) << "the run is repeated";
}

TEST_F(SweepTest, VariantsAreTrainedAndTested) {
  const Finished mixed = klab(tiny_run(path("run"), {"--mixture.tasks", "{length: 12, weight: 3}", "--test.also",
                                                     "[{length: 8}, {length: 32, mqar.pairs: 4}]"}));
  ASSERT_EQ(mixed.status, 0) << mixed.err;
  const CsvTable table = read_csv(path("run/evaluations.csv"));
  std::vector<std::string> variants;
  for (const auto& row : table.rows) {
    if (row[table.column("difficulty")] == "all") variants.push_back(row[table.column("variant")]);
  }
  EXPECT_EQ(variants, (std::vector<std::string>{"", "length=8", "length=32 mqar.pairs=4"}));
}

TEST_F(SweepTest, MistakesInTheFileAreNamedWithTheirLine) {
  const auto refusal = [&](const std::string& more) {
    const Finished done = klab({"sweep", file(more), "--out", path("out")});
    EXPECT_EQ(done.status, 2) << more;
    return done.err;
  };
  const auto expect = [&](const std::string& more, const std::string& words) {
    EXPECT_NE(refusal(more).find(words), std::string::npos) << more << "\n" << refusal(more);
  };
  expect("gird:\n  train.lr: [1]\n", "unknown key 'gird'; did you mean 'grid'?");
  expect("grid:\n  train.lrr: [1]\n", "sweep.yaml, line 6: unknown key 'train.lrr'");
  expect("grid:\n  train.lr: 1\n", "'train.lr' must be a list");
  expect("grid:\n  train.lr: [-1]\n", "train.lr = -1 must be above 0");
  expect("halving: {steps: [15]}\n", "not a multiple of train.eval_every = 10");
  expect("halving: {steps: [10], within: [train.seeed]}\n", "did you mean 'train.seed'?");
  expect("random:\n  runs: 2\n  train.lr: {uniform: [2, 1]}\n", "two numbers with low < high");
  expect("conditions:\n  - when: {model.pattern: gdn}\n    skip: true\n", "skip every run");
}

TEST_F(SweepTest, AnotherNumberOfThreadsIsRefused) {
  const std::string sweep = file("seeds: [1]\n");
  ASSERT_EQ(klab({"sweep", sweep, "--out", path("out"), "--threads", "1"}).status, 0);
  const Finished done = klab({"sweep", sweep, "--out", path("out"), "--threads", "2"});
  EXPECT_EQ(done.status, 2);
  EXPECT_NE(done.err.find("Use --threads 1"), std::string::npos) << done.err;
}

TEST_F(SweepTest, AnotherProcessInTheFolderIsNamed) {
  std::filesystem::create_directory(path("out"));
  const auto lock = Lock::take(path("out/lock"));
  const Finished done = klab({"sweep", file("seeds: [1]\n"), "--out", path("out")});
  EXPECT_EQ(done.status, 2);
  const std::string words = "'" + path("out") + "' is being run by process " + std::to_string(::getpid()) + " on ";
  EXPECT_NE(done.err.find(words), std::string::npos) << done.err;
}

// Fake programs of Slurm; tests/experiments/sweep has the calls, tests/conformance a real Slurm.
class SlurmSweepTest : public SweepTest {
 protected:
  SlurmSweepTest() : before_(std::getenv("PATH")) {
    std::filesystem::create_directory(path("bin"));
    // Tasks are started, and as long as they run they are listed.
    program("sbatch", "echo sbatch >> " + path("calls") + "; echo 7");
    program("squeue", "cat " + path("queue"));
    program("scancel", "echo scancel >> " + path("calls") + "; : > " + path("queue"));
    write_file(path("queue"), "");
    ::setenv("PATH", (path("bin") + ":" + before_).c_str(), 1);
  }
  ~SlurmSweepTest() override { ::setenv("PATH", before_.c_str(), 1); }

  void program(const std::string& name, const std::string& commands) const {
    const std::string file = path("bin/" + name);
    write_file(file, "#!/bin/sh\n" + commands + "\n");
    std::filesystem::permissions(file, std::filesystem::perms::owner_all);
  }
  Finished sweep(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"sweep", file("seeds: [1, 2]\n"), "--out", path("out"), "--launcher", "slurm"};
    words.insert(words.end(), more.begin(), more.end());
    return klab(words);
  }
  std::string calls() const { return std::filesystem::exists(path("calls")) ? read_file(path("calls")) : ""; }

  const std::string before_;
};

TEST_F(SlurmSweepTest, AnOptionOnWhichTheSweepReliesIsRefusedBeforeAnythingIsDone) {
  const Finished done = sweep({"--slurm", "--partition=cpu --job-name=mine"});
  EXPECT_EQ(done.status, 2);
  EXPECT_NE(done.err.find("--job-name"), std::string::npos) << done.err;
  EXPECT_EQ(calls(), "");
  EXPECT_FALSE(std::filesystem::exists(path("out")));
}

TEST_F(SlurmSweepTest, GivingUpCancelsTheTasksAndWritesTheResultsSoFar) {
  const Finished done = sweep();  // whose tasks are not listed, and do nothing
  EXPECT_EQ(done.status, 1);
  EXPECT_NE(done.err.find("slurm-*.out"), std::string::npos) << done.err;
  EXPECT_EQ(calls(), "sbatch\nscancel\n");
  EXPECT_EQ(results(path("out"), {"state"}), (std::vector<std::string>{"waiting ", "waiting "}));
}

TEST_F(SlurmSweepTest, AQuestionWithoutAnswerDoesNotEndTheSweep) {
  // The task is a process here, and squeue fails once.
  const std::string done = path("done"), failed = path("failed");
  program("sbatch", "for script; do :; done; (sh \"$script\"; touch " + done + ") > /dev/null 2>&1 & echo 7");
  program("squeue", "[ -e " + failed + " ] || { touch " + failed + "; echo 'Socket timed out' >&2; exit 1; }; [ -e " +
                        done + " ] || echo 7");
  const Finished run = sweep({"--workers", "1"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_NE(run.err.find("Socket timed out"), std::string::npos) << run.err;
  EXPECT_EQ(results(path("out"), {"state"}), (std::vector<std::string>{"finished ", "finished "}));
}

// --- compare ---

TEST_F(SweepTest, CompareShowsMeansIntervalsAndCosts) {
  ASSERT_EQ(klab({"sweep", file("grid:\n  model.pattern: [kda, gdn]\n  train.lr: [1e-3, 1e-2]\nseeds: [1, 2, 3]\n"),
                  "--out", path("out")})
                .status,
            0);
  const Finished csv = klab({"compare", path("out"), "--best", "train.lr", "--metrics", "loss", "--format", "csv",
                             "--out", path("table.csv")});
  ASSERT_EQ(csv.status, 0) << csv.err;
  const CsvTable table = read_csv(path("table.csv"));
  ASSERT_EQ(table.rows.size(), 2u);
  const CsvTable runs = read_csv(path("out/results.csv"));
  for (const auto& row : table.rows) {
    double sum = 0, squares = 0;
    for (const auto& run : runs.rows) {
      const bool same = run[runs.column("model.pattern")] == row[table.column("model.pattern")] &&
                        run[runs.column("train.lr")] == row[table.column("train.lr")];
      const double loss = std::stod(run[runs.column("loss")]);
      if (same) sum += loss, squares += loss * loss;
    }
    EXPECT_NEAR(std::stod(row[table.column("loss")]), sum / 3, 2e-6);
    // Student's t for two degrees of freedom.
    const double deviation = std::sqrt((squares - sum * sum / 3) / 2);
    const double half_width = 4.302653 * deviation / std::sqrt(3.0);
    EXPECT_NEAR(std::stod(row[table.column("loss_low")]), sum / 3 - half_width, 1e-4);
    EXPECT_NEAR(std::stod(row[table.column("loss_high")]), sum / 3 + half_width, 1e-4);
    EXPECT_EQ(row[table.column("seeds")], "3");
  }
  EXPECT_NE(klab({"compare", path("out"), "--format", "latex"}).out.find("\\toprule"), std::string::npos);
  EXPECT_NE(klab({"compare", path("out"), "--format", "markdown"}).out.find("|---|"), std::string::npos);
  const Finished wrong = klab({"compare", path("out"), "--metrics", "acc"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_NE(wrong.err.find("'acc' is not a metric"), std::string::npos) << wrong.err;

  const Finished twice = klab({"compare", path("out"), path("out"), "--format", "csv", "--out", path("twice.csv")});
  ASSERT_EQ(twice.status, 0) << twice.err;
  EXPECT_NE(twice.err.find("12 runs are in several places and count once"), std::string::npos) << twice.err;
  const CsvTable once = read_csv(path("twice.csv"));
  ASSERT_EQ(once.rows.size(), 4u);
  for (const auto& row : once.rows) EXPECT_EQ(row[once.column("seeds")], "3");
}

TEST_F(SweepTest, CompareKeepsApartWhatEndedOtherwise) {
  const std::string sweep = file(
      "grid:\n  train.lr: [1e-4, 1e-3, 3e-3, 1e-2, 1e30]\nseeds: [1, 2]\nhalving: {metric: loss, steps: [10], "
      "factor: 2}\n");
  ASSERT_EQ(klab({"sweep", sweep, "--out", path("out"), "--threads", "1"}).status, 1);
  const Finished done =
      klab({"compare", path("out"), "--metrics", "loss,test_loss", "--format", "csv", "--out", path("table.csv")});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_NE(done.err.find("2 runs are not in the table"), std::string::npos) << done.err;
  EXPECT_NE(done.err.find("(lr=1e+30 seed=2): diverged at step "), std::string::npos) << done.err;

  const CsvTable table = read_csv(path("table.csv")), runs = read_csv(path("out/results.csv"));
  int64_t in_table = 0, stopped = 0;
  for (const auto& row : table.rows) {
    const bool is_stopped = row[table.column("state")] == "stopped";
    EXPECT_EQ(row[table.column("steps")], is_stopped ? "10" : "30");
    EXPECT_EQ(row[table.column("test_loss")].empty(), is_stopped);
    const auto same = std::count_if(runs.rows.begin(), runs.rows.end(), [&](const auto& run) {
      return run[runs.column("train.lr")] == row[table.column("train.lr")] &&
             run[runs.column("state")] == row[table.column("state")];
    });
    EXPECT_EQ(row[table.column("seeds")], std::to_string(same));
    in_table += same;
    stopped += is_stopped;
  }
  EXPECT_EQ(in_table, 8);
  EXPECT_GT(stopped, 0);
  const Finished best = klab({"compare", path("out"), "--best", "train.lr", "--metrics", "loss"});
  EXPECT_EQ(best.status, 0) << best.err;
  EXPECT_NE(best.out.find("finished"), std::string::npos) << best.out;
}

}  // namespace
}  // namespace klab
