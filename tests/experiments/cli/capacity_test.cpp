// SPDX-License-Identifier: Apache-2.0
// klab capacity.
#include "core/base/csv.h"
#include "core/base/file.h"
#include "experiments/cli/support.h"

namespace klab {
namespace {

using UntrainedProgram = ProgramTest;

TEST_F(UntrainedProgram, WritesTableAndPicture) {
  const std::vector<std::string> command = {"capacity", "gdn",    "--untrained", "--widths", "8",
                                            "--loads",  "0.25,1", "--quiet",     "--seed",   "3"};
  const auto run = [&](const std::string& out) {
    std::vector<std::string> words = command;
    words.insert(words.end(), {"--out", path(out)});
    return klab(words);
  };
  const Finished once = run("a"), again = run("b");
  ASSERT_EQ(once.status, 0) << once.err;
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_NE(once.out.find("pairs at 99 % recovered"), std::string::npos);
  const CsvTable a = read_csv(path("a/capacity.csv")), b = read_csv(path("b/capacity.csv"));
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.rows.size(), 3 * 2 * 3u);  // deltanet's rule, gdn's and least squares
  EXPECT_FALSE(a.comments.empty());
  EXPECT_EQ(read_file(path("a/capacity.png")).substr(1, 3), "PNG");
}

TEST_F(UntrainedProgram, RefusesFlagsOfTraining) {
  const auto refused = [&](std::vector<std::string> flags, const std::string& words) {
    flags.insert(flags.begin(), "capacity");
    flags.insert(flags.end(), {"--out", path("none")});
    const Finished run = klab(flags);
    EXPECT_EQ(run.status, 2) << words;
    EXPECT_NE(run.err.find(words), std::string::npos) << run.err;
  };
  refused({"--untrained", "--lrs", "1e-2"}, "does not accept --lrs");
  refused({"--untrained", "--seeds", "1"}, "does not accept --seeds");
  refused({"--untrained", "--budget", "1"}, "does not accept --budget");
  refused({"--untrained", "--device", "cuda"}, "does not accept --device");
  refused({"--untrained", "--train.steps", "10"}, "does not accept --train.steps");
  refused({"mla", "--untrained"}, "MIXER = 'mla' has no update rule");
  refused({"--untrained", "--widths", "2"}, "widths: 2 must lie in 4 to 256");
  refused({"kda", "gdn", "--untrained"}, "takes one MIXER, not 2");
  refused({}, "capacity needs MIXER, or --untrained");
  EXPECT_FALSE(std::filesystem::exists(path("none")));
}

using TrainedCapacity = ProgramTest;

// The learning rate is the one that is best on validation data, the accuracies are those of test data.
TEST_F(TrainedCapacity, ComparesMixersByTestData) {
  const Finished run = klab({"capacity", "kda", "mamba2", "--widths", "4", "--loads", "0.25,0.5", "--train.steps", "4",
                             "--train.eval_every", "2", "--train.batch", "2", "--train.eval_examples", "8",
                             "--model.kda.short_conv", "false", "--out", path("out")});
  ASSERT_EQ(run.status, 0) << run.err;
  const CsvTable tried = read_csv(path("out/tried.csv")), runs = read_csv(path("out/runs/results.csv"));
  ASSERT_EQ(tried.rows.size(), 2 * 2u);  // mixers x loads
  ASSERT_EQ(runs.rows.size(), 2 * 2 * 2u);
  const size_t mixer = tried.column("mixer"), pairs = tried.column("pairs"), lr = tried.column("lr");
  for (const auto& cell : tried.rows) {
    const std::vector<std::string>* best = nullptr;
    const auto score = [&](const std::vector<std::string>& row) {
      return std::pair{std::stod(row[runs.column("best_acc_tok")]), -std::stod(row[runs.column("best_loss")])};
    };
    for (const auto& row : runs.rows) {
      if (row[runs.column("label")] != cell[mixer] || row[runs.column("task.mqar.pairs")] != cell[pairs]) continue;
      if (best == nullptr || score(row) > score(*best)) best = &row;
    }
    ASSERT_NE(best, nullptr);
    EXPECT_EQ(std::stod(cell[lr]), std::stod((*best)[runs.column("train.lr")]));
    EXPECT_NEAR(std::stod(cell[tried.column("acc_tok")]), std::stod((*best)[runs.column("best_test_acc_tok")]), 1e-4);
  }
  EXPECT_EQ(read_csv(path("out/capacity.csv")).rows.size(), 2u);
  for (const char* picture : {"capacity.png", "recall-4.png"}) {
    EXPECT_EQ(read_file(path("out/") + picture).substr(1, 3), "PNG") << picture;
  }
}

TEST_F(TrainedCapacity, RefusesTheKeysThatItSets) {
  const Finished run = klab({"capacity", "kda", "--model.head_dim", "32", "--out", path("none")});
  EXPECT_EQ(run.status, 2);
  EXPECT_NE(run.err.find("capacity sets model.head_dim itself, from --widths"), std::string::npos) << run.err;
}

}  // namespace
}  // namespace klab
