// SPDX-License-Identifier: Apache-2.0
// klab verify: what it prints and returns for results that are as they were, and for others.
#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/base/support.h"
#include "experiments/cli/support.h"

namespace klab {
namespace {

const std::string kStudy = R"(base:
  task: {name: copy, length: 9, vocab: 8}
  model: {layers: 1, width: 8, heads: 1, head_dim: 8}
  train: {batch: 4, steps: 8, eval_every: 4, eval_examples: 8, stop_at: 2}
grid:
  model.pattern: [kda, gdn]
study:
  claims: [{better: kda, than: gdn}]
  seeds: 2
)";

class VerifyProgram : public ProgramTest {
 protected:
  Finished verify(const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"verify", path("out"), "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return klab(arguments);
  }
};

TEST_F(VerifyProgram, ResultsAreEqualUntilADigitIsChanged) {
  write_file(path("tiny.yaml"), kStudy);
  const Finished done = klab({"study", path("tiny.yaml"), "--out", path("out"), "--quiet"});
  ASSERT_EQ(done.status, 0) << done.err;
  const Finished all = verify({"--runs", "4"});
  EXPECT_EQ(all.status, 0) << all.out << all.err;
  EXPECT_TRUE(contains(all.out, "passed: by the same version on the same kind of machine every digit must be equal"))
      << all.out;
  EXPECT_TRUE(contains(all.out, "4 of 4 repeated runs passed")) << all.out;
  EXPECT_FALSE(contains(all.out, "differs")) << all.out;

  const Finished one = verify({"--seed", "5"});
  EXPECT_EQ(one.status, 0) << one.out << one.err;
  EXPECT_TRUE(contains(one.out, "1 of 1 repeated runs passed")) << one.out;
  EXPECT_EQ(verify({"--seed", "5"}).out, one.out) << "the same run again";

  CsvTable table = read_csv(path("out/results.csv"));
  char& digit = table.rows[1][table.column("best_test_loss")].back();
  digit = digit == '9' ? '8' : static_cast<char>(digit + 1);
  write_file(path("out/results.csv"), table.text());
  const Finished changed = verify({"--runs", "4"});
  EXPECT_EQ(changed.status, 1) << changed.out << changed.err;
  EXPECT_TRUE(contains(changed.out, "differs")) << changed.out;
  EXPECT_TRUE(contains(changed.out, "FAILED: by the same version on the same kind of machine")) << changed.out;
  EXPECT_TRUE(contains(changed.out, "3 of 4 repeated runs passed")) << changed.out;

  // Made by another version or elsewhere, the digit may differ.
  CsvTable older = table;
  older.comments.front() = "klab 0.0.1 commit 1234567";
  write_file(path("out/results.csv"), older.text());
  const Finished version = verify({"--runs", "4"});
  EXPECT_EQ(version.status, 0) << version.out << version.err;
  EXPECT_TRUE(contains(version.out, "another kind of machine (klab 0.0.1 commit 1234567; ")) << version.out;
  for (std::string& line : table.comments) {
    if (line.starts_with("machine: ")) line = "machine: another one";
  }
  write_file(path("out/results.csv"), table.text());
  const Finished elsewhere = verify({"--runs", "4"});
  EXPECT_EQ(elsewhere.status, 0) << elsewhere.out << elsewhere.err;
  EXPECT_TRUE(contains(elsewhere.out, "; another one); accuracies must lie within 0.1")) << elsewhere.out;
  for (auto& row : table.rows) row[table.column("test_acc_tok")] = "5.000000";
  write_file(path("out/results.csv"), table.text());
  const Finished far = verify({"--runs", "4"});
  EXPECT_EQ(far.status, 1) << far.out << far.err;
  EXPECT_TRUE(contains(far.out, "FAILED: made by another version or on another kind of machine")) << far.out;
  EXPECT_TRUE(contains(far.out, "0 of 4 repeated runs passed")) << far.out;
}

TEST_F(VerifyProgram, Mistakes) {
  const auto refused = [&](const std::vector<std::string>& arguments, const std::string& words) {
    const Finished done = klab(arguments);
    EXPECT_EQ(done.status, 2) << done.err;
    EXPECT_TRUE(contains(done.err, words)) << done.err;
    EXPECT_EQ(done.out, "");
  };
  refused({"verify"}, "DIR");
  refused({"verify", path("none")}, "none' is not the results of a study: it has no study.yaml");
  write_file(path("study.yaml"), kStudy);
  refused({"verify", path("")}, "it has no results.csv");
  write_file(path("results.csv"), "run,test_loss\n");
  refused({"verify", path(""), "--runs", "0"}, "runs");
  refused({"verify", path(""), "--threads", "2"}, "verify does not accept --threads");
}

}  // namespace
}  // namespace klab
