// SPDX-License-Identifier: Apache-2.0
// klab capacity --untrained.
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
  refused({}, "capacity needs MIXER, or --untrained");
  EXPECT_FALSE(std::filesystem::exists(path("none")));
}

}  // namespace
}  // namespace klab
