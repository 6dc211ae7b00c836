// SPDX-License-Identifier: Apache-2.0
// klab demo with few steps: its files, and running it again.
#include "core/base/csv.h"
#include "experiments/cli/support.h"

namespace klab {
namespace {

class Demo : public ProgramTest {
 protected:
  // The mixers in the table of the best runs.
  std::vector<std::string> mixers_after(const std::string& steps) {
    const Finished run = klab({"demo", "--steps", steps, "--workers", "2", "--out", path("demo"), "--quiet"});
    EXPECT_EQ(run.status, 0) << run.err;
    std::vector<std::string> mixers;
    const CsvTable table = read_csv(path("demo/demo.csv"));
    for (const auto& row : table.rows) mixers.push_back(row[table.column("model.pattern")]);
    return mixers;
  }
};

TEST_F(Demo, EveryMixerAtItsBestAndAgain) {
  const std::vector<std::string> once = {"[kda]", "[gdn]", "[mamba2]"};
  EXPECT_EQ(mixers_after("2"), once);
  EXPECT_EQ(read_csv(path("demo/all_runs.csv")).rows.size(), 9u);
  EXPECT_GT(std::filesystem::file_size(path("demo/demo.png")), 0u);
  // A complete demo is run again, with other steps too.
  EXPECT_EQ(mixers_after("3"), once);
  const CsvTable table = read_csv(path("demo/all_runs.csv"));
  ASSERT_EQ(table.rows.size(), 9u);
  EXPECT_EQ(table.rows[0][table.column("step")], "3");
}

}  // namespace
}  // namespace klab
