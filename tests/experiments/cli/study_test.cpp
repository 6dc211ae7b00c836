// SPDX-License-Identifier: Apache-2.0
// klab study: from a study file to a page, with interruptions and mistakes.
#include <fmt/format.h>

#include <algorithm>
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

class StudyProgram : public ProgramTest {
 protected:
  // A study of runs of a tenth of a second; `grid` and `study` are lines of those sections.
  std::string file(const std::string& grid, const std::string& study, int64_t steps = 12) {
    write_file(path("tiny.yaml"), fmt::format(R"(base:
  task: {{name: mqar, length: 16, vocab: 16}}
  model: {{layers: 1, width: 8, heads: 1, head_dim: 8}}
  train: {{batch: 8, steps: {}, eval_every: 4, eval_examples: 16, checkpoint_every: 4, stop_at: 2}}
grid:
  model.pattern: [kda, gdn]
{}study:
  claims: [{{better: kda, than: gdn}}]
{})",
                                              steps, grid, study));
    return path("tiny.yaml");
  }

  Finished study(const std::string& file, const Texts& more = {}) {
    Texts arguments{"study", file, "--out", path("out"), "--workers", "2", "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return klab(arguments);
  }

  std::string page() const { return read_file(path("out/page.md")); }

  Texts values(const std::string& name, const std::string& column) const {
    const CsvTable table = read_csv(path("out/" + name));
    Texts all;
    for (const auto& row : table.rows) all.push_back(row[table.column(column)]);
    return all;
  }
};

TEST_F(StudyProgram, FromTheQuestionToThePage) {
  // A learning rate of 1e-9 leaves the loss where it begins, near 3 nats, so that 1e-2 is chosen.
  const std::string name =
      file("  train.lr: [1e-9, 1e-2]\n", "  question: Is it so?\n  choose_by: best_loss\n  seeds: 3\n  reach_at: 0\n");
  const Finished done = study(name);
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(values("search.csv", "train.lr"), (Texts{"1e-09", "0.01", "1e-09", "0.01"}));
  EXPECT_EQ(values("results.csv", "train.lr"), Texts(6, "0.01"));
  EXPECT_EQ(values("results.csv", "train.seed"), (Texts{"2", "2", "3", "3", "4", "4"})) << "the search's seed is 1";
  EXPECT_EQ(values("results.csv", "model.pattern"), (Texts{"[kda]", "[gdn]", "[kda]", "[gdn]", "[kda]", "[gdn]"}));
  EXPECT_EQ(values("results.csv", "state"), Texts(6, "finished"));
  EXPECT_EQ(read_file(path("out/study.yaml")), read_file(name));
  for (const std::string picture : {"outcome-mqar.png", "curves-mqar-16.png", "waiting-mqar-16.png"}) {
    EXPECT_EQ(read_file(path("out/" + picture)).substr(1, 3), "PNG") << picture;
    EXPECT_TRUE(contains(page(), fmt::format("![{0}]({0})", picture))) << page();
  }
  EXPECT_TRUE(page().starts_with("# Study tiny\n\nIs it so?\n")) << page();
  EXPECT_TRUE(contains(page(), "| mqar | 16 | 4 (3 of 3) | 4 (3 of 3) |")) << "all reach 0 at once: " << page();
  const std::string counts = done.out.substr(0, done.out.find('\n'));
  EXPECT_TRUE(counts.starts_with("kda above gdn: ")) << done.out;
  EXPECT_TRUE(contains(page(), "\n- " + counts + "\n")) << page();
  EXPECT_TRUE(contains(done.out, path("out/page.md")));

  // Every run waits until step 3 and has reached the threshold at 4; a time of two rows would be drawn as their mean.
  const CsvTable waiting = read_csv(path("out/survival.csv"));
  std::map<std::string, Texts> steps;
  for (const auto& row : waiting.rows) {
    steps[row[waiting.column("model.pattern")]].push_back(row[waiting.column("step")] + ":" +
                                                          row[waiting.column("share_waiting")].substr(0, 3));
  }
  EXPECT_EQ(steps["kda"], (Texts{"0:1.0", "3:1.0", "4:0.0"}));
  EXPECT_EQ(steps["gdn"], steps["kda"]);

  // Without one run, and the record of another, the same results are computed again.
  const Texts before = timeless_rows(path("out/results.csv"));
  const std::string curves = read_csv(path("out/curves.csv")).rows.back().back(), old_page = page();
  const Texts runs = values("results.csv", "run");
  const auto untouched = fs::last_write_time(path("out/runs-tiny/seeds/" + runs[0] + "/record.json"));
  fs::remove_all(path("out/runs-tiny/seeds/" + runs[2]));
  fs::remove(path("out/runs-tiny/seeds/" + runs[5] + "/record.json"));
  fs::remove(path("out/results.csv"));
  const Finished again = study(name);
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(timeless_rows(path("out/results.csv")), before);
  EXPECT_EQ(page(), old_page);
  EXPECT_EQ(again.out, done.out);
  EXPECT_EQ(fs::last_write_time(path("out/runs-tiny/seeds/" + runs[0] + "/record.json")), untouched);

  // Another file in its place is refused, and changes nothing.
  const Finished other = study(file("  train.lr: [1e-9, 1e-2]\n", "  choose_by: best_loss\n  seeds: 2\n"));
  EXPECT_EQ(other.status, 2);
  EXPECT_TRUE(contains(other.err, "is of another study than tiny")) << other.err;
  EXPECT_EQ(page(), old_page);
}

TEST_F(StudyProgram, WhenTheTimeIsUpThePageSaysSoAndTheNextCallContinues) {
  const std::string name = file("", "  seeds: 6\n", 60);
  const Finished first = study(name, {"--budget", "0.0002"});  // 0.7 seconds
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_TRUE(contains(first.out, "the time limit was reached")) << first.out;
  EXPECT_TRUE(contains(page(), "**Incomplete**")) << page();
  EXPECT_FALSE(fs::exists(path("out/search.csv"))) << "there was nothing to choose";
  EXPECT_FALSE(contains(page(), "chosen per cell")) << page();
  const Texts states = values("results.csv", "state"), before = timeless_rows(path("out/results.csv"));
  EXPECT_LT(std::count(states.begin(), states.end(), "finished"), 12);
  const Finished rest = study(name);
  ASSERT_EQ(rest.status, 0) << rest.err;
  EXPECT_FALSE(contains(rest.out, "time limit")) << rest.out;
  EXPECT_FALSE(contains(page(), "Incomplete")) << page();
  EXPECT_EQ(values("results.csv", "state"), Texts(12, "finished"));
  const Texts after = timeless_rows(path("out/results.csv"));
  for (size_t i = 0; i < 12; ++i) {
    if (states[i] == "finished") {
      EXPECT_EQ(after[i], before[i]);
    }
  }
}

TEST_F(StudyProgram, RunsThatDivergeAreResultsToo) {
  const std::string when = "conditions:\n  - when: {model.pattern: kda}\n    set: {train.lr: 1e30}\n";
  for (const std::string metric : {"test_acc_tok", "test_loss"}) {
    fs::remove_all(path("out"));
    const Finished done = study(file("", "  seeds: 2\n  metric: " + metric + "\n" + when));
    ASSERT_EQ(done.status, 0) << done.err;
    EXPECT_EQ(values("results.csv", "state"), (Texts{"diverged", "finished", "diverged", "finished"}));
    if (metric == "test_loss") {
      EXPECT_TRUE(contains(page(), "| mqar | 16 | - | ")) << page();
    } else {
      EXPECT_TRUE(contains(page(), "| mqar | 16 | 0.0 [0.0, ")) << page();
    }
    EXPECT_TRUE(contains(page(), "| mqar | 16 | 0 of 2 [0, 84 %] | ")) << page();
    EXPECT_EQ(values("outcomes.csv", "train.seed").size(), metric == "test_loss" ? 2u : 4u);
    EXPECT_TRUE(fs::exists(path("out/outcome-mqar.png")));
  }
}

TEST_F(StudyProgram, Mistakes) {
  const auto refusal = [&](const std::string& name) {
    const Finished done = study(name);
    EXPECT_EQ(done.status, 2) << done.err;
    EXPECT_EQ(done.out, "");
    return done.err;
  };
  const auto expect = [&](const std::string& lines, const std::string& words) {
    const std::string message = refusal(file("  train.lr: [1e-3, 1e-2]\n", lines));
    EXPECT_TRUE(contains(message, words)) << message;
  };
  expect("  sedes: 3\n", "tiny.yaml, line 10: unknown key 'sedes'; did you mean 'seeds'?");
  expect("  metric: acc\n", "metric = acc must be one of: test_acc_tok");
  expect("  cells: [task.size]\n", "'task.size' is not a key of all runs");
  expect("  choose: train.rate\n", "'train.rate' is not a key of all runs");
  EXPECT_TRUE(contains(refusal(path("none.yaml")), "none.yaml"));
  write_file(path("sweep.yaml"), "grid:\n  train.lr: [1e-3, 1e-2]\n");
  EXPECT_TRUE(contains(refusal(path("sweep.yaml")), "a study needs a section `study`"));
  EXPECT_FALSE(fs::exists(path("out/results.csv")));
}

TEST_F(StudyProgram, ASweepOfAStudyFileIsItsSearch) {
  const Finished done = klab({"sweep", file("  train.lr: [1e-2]\n", "  seeds: 3\n"), "--out", path("out"), "--quiet"});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(values("results.csv", "model.pattern"), (Texts{"[kda]", "[gdn]"}));
}

}  // namespace
}  // namespace klab
