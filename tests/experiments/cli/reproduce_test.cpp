// SPDX-License-Identifier: Apache-2.0
// klab reproduce and klab capacity at the smallest scale: studies run and write their pages.
#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/base/support.h"
#include "experiments/cli/support.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

class ReproduceProgram : public ProgramTest {
 protected:
  std::string reproduce(const std::string& name, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"reproduce", name, "--scale", "smoke", "--out", path("out"), "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Finished run = klab(arguments);
    EXPECT_EQ(run.status, 0) << run.err;
    return run.status == 0 ? read_file(path("out/" + name + "/page.md")) : "";
  }
};

TEST_F(ReproduceProgram, SlowFigures1And7MakeTheirPagesCurvesAndNumbers) {
  const Finished run = klab({"reproduce", "fig1", "fig7", "--scale", "smoke", "--out", path("out")});
  ASSERT_EQ(run.status, 0) << run.err;
  for (const char* file :
       {"fig1/measured.csv", "fig1/extrapolated.csv", "fig1/page.md", "fig1/tpot.png", "fig7/measured.csv",
        "fig7/page.md", "fig7/prefill.png", "fig7/decode.png", "fig7/ratio.png"}) {
    EXPECT_TRUE(fs::exists(path("out") + "/" + file)) << file;
  }
  EXPECT_TRUE(contains(read_file(path("out") + "/fig7/extrapolated.csv"), "EXTRAPOLATED"));
  EXPECT_EQ(klab({"reproduce", "fig99"}).status, 2);
}

TEST_F(ReproduceProgram, Figure4ComparesMixersOnFreshSeeds) {
  const std::string page = reproduce("fig4");
  for (const char* claim : {"- kda above gdn: ", "- gdn above mamba2: "}) EXPECT_TRUE(contains(page, claim)) << page;
  EXPECT_TRUE(contains(page, "of 2 cells.")) << page;
  EXPECT_TRUE(contains(page, "| palindrome | 16 | 512 | 100 | 100 | 0 |")) << "the report's values: " << page;
  const CsvTable search = read_csv(path("out/fig4/search.csv")), results = read_csv(path("out/fig4/results.csv"));
  EXPECT_EQ(search.rows.size(), 2u * 3 * 2);
  EXPECT_EQ(results.rows.size(), 2u * 3 * 2) << "two new seeds of each mixer on each task";
  for (const auto& row : results.rows) EXPECT_NE(row[results.column("train.seed")], "1") << "the search's seed";
  for (const char* file : {"outcome.png", "curves-palindrome.png", "waiting-mqar.png", "survival.csv"}) {
    EXPECT_TRUE(fs::exists(path("out/fig4/") + file)) << file;
  }
  // Existing results are not computed again.
  const auto before = fs::last_write_time(path("out/fig4/runs-smoke/seeds/plan.json"));
  EXPECT_EQ(reproduce("fig4"), page);
  EXPECT_EQ(fs::last_write_time(path("out/fig4/runs-smoke/seeds/plan.json")), before);
}

TEST_F(ReproduceProgram, SlowFigure6ReinforcesFromSupervisedRuns) {
  const std::string page = reproduce("fig6", {"--budget", "5"});
  for (const char* part : {"- KDA hybrid above MLA: ", "## Accuracy on the supervised tasks", "| MLA | 0.1 |"}) {
    EXPECT_TRUE(contains(page, part)) << page;
  }
  const CsvTable results = read_csv(path("out/fig6/results.csv")), steps = read_csv(path("out/fig6/iterations.csv"));
  EXPECT_EQ(results.rows.size(), 2u * 2 * 2) << "two seeds of each architecture with and without supervised data";
  std::map<std::string, int> rows;
  for (const auto& row : steps.rows) ++rows[row[steps.column("split")]];
  EXPECT_EQ(rows["train"], 8 * 6);
  EXPECT_EQ(rows["validation"], 8 * 4) << "before the first iteration, and after 2, 4 and 6";
  EXPECT_EQ(rows["supervised"], 8 * 4);
  for (const char* file : {"training.png", "held-out.png", "forgetting.png"}) {
    EXPECT_TRUE(fs::exists(path("out/fig6/") + file)) << file;
  }
}

TEST_F(ReproduceProgram, SlowOtherSeedsOnRequest) {
  reproduce("fig4", {"--seed", "10"});
  const CsvTable results = read_csv(path("out/fig4/results.csv"));
  for (const auto& row : results.rows) {
    const std::string& seed = row[results.column("train.seed")];
    EXPECT_TRUE(seed == "11" || seed == "12") << seed;
  }
  const Finished refused = klab({"reproduce", "fig2", "--seed", "10", "--out", path("other")});
  EXPECT_EQ(refused.status, 2);
  EXPECT_TRUE(contains(refused.err, "fig2 does not accept --seed")) << refused.err;
}

TEST_F(ReproduceProgram, WhenTheTimeIsUpThePageSaysSo) {
  const Finished run =
      klab({"reproduce", "fig4", "--scale", "small", "--budget", "0.002", "--out", path("out"), "--quiet"});
  if (run.status == 0) {
    EXPECT_TRUE(contains(read_file(path("out/fig4/page.md")), "**Incomplete**"));
  } else {
    EXPECT_TRUE(contains(run.err, "larger --budget")) << run.err;
  }
}

TEST_F(ReproduceProgram, SlowTable5TestsOtherLengthsAndDepths) {
  const std::string page = reproduce("table5");
  EXPECT_TRUE(contains(page, "| model | 32 | 64 |")) << page;
  const CsvTable table = read_csv(path("out/table5/evaluations.csv"));
  const size_t difficulty = table.column("difficulty");
  EXPECT_TRUE(
      std::any_of(table.rows.begin(), table.rows.end(), [&](const auto& row) { return row[difficulty] == "9"; }));
  EXPECT_TRUE(fs::exists(path("out/table5/depth.png")));
}

TEST_F(ReproduceProgram, Table1HasARowPerAblation) {
  const std::string page = reproduce("table1");
  for (const char* row : {"| 3:1 |", "| 15:1 |", "| no output gate |", "| no convolution |"}) {
    EXPECT_TRUE(contains(page, row)) << row << " is not in " << page;
  }
  EXPECT_TRUE(contains(page, "| 2 | 9.23 | 5.65 |")) << page;
}

TEST_F(ReproduceProgram, Figure5FitsALawToEveryArchitecture) {
  const std::string page = reproduce("fig5");
  for (const char* part : {"| MLA | 4 |", "| GDN hybrid | 6 |", "| 2.2879 C^-0.0527 |", "| GDN hybrid | MLA |"}) {
    EXPECT_TRUE(contains(page, part)) << part << " is not in " << page;
  }
  const CsvTable points = read_csv(path("out/fig5/points.csv")), fits = read_csv(path("out/fig5/fits.csv"));
  EXPECT_EQ(points.rows.size(), 3u * 3 * 2);
  EXPECT_EQ(fits.rows.size(), 3u);
  EXPECT_FALSE(points.comments.empty()) << "provenance";
  for (const char* file : {"ratios.csv", "scaling.png"}) EXPECT_TRUE(fs::exists(path("out/fig5/") + file)) << file;
}

TEST_F(ReproduceProgram, FormalLanguagesAreScoredBeyondTheTrainedLength) {
  const std::string page = reproduce("formal");
  for (const char* part :
       {"- GDN with negative eigenvalues above GDN: ", "of 2 cells.", "## Published beside ours", "| GDN | 1x | ",
        "| GDN with negative eigenvalues | 4x | ", "| Mamba-3 | 4x | - | - | 100 | 98.5 | 87.8 |",
        "Here: 20 steps of 8 sequences of up to 16", "| GDN with negative eigenvalues above GDN | S3 | 4x | "}) {
    EXPECT_TRUE(contains(page, part)) << part << " is not in " << page;
  }
  const CsvTable scores = read_csv(path("out/formal/scores.csv")), results = read_csv(path("out/formal/results.csv"));
  EXPECT_EQ(scores.rows.size(), 2u * 2 * 2 * 2) << "tasks, mixers, lengths, seeds";
  EXPECT_EQ(results.rows.size(), 2u * 2 * 2);
  for (const char* file : {"scores.png", "outcome.png", "curves-parity.png", "evaluations.csv"}) {
    EXPECT_TRUE(fs::exists(path("out/formal/") + file)) << file;
  }
}

TEST_F(ReproduceProgram, MadHasARowPerMixerBesideThePublishedOnes) {
  const std::string page = reproduce("mad");
  for (const char* part : {"- kda above gdn: ", "of 2 cells.", "| kda | ", "| gla | ",
                           "| deltanet | - | - | 42 | 36 | 100 | 53 | 100 | 100 |", "Here: one setting of each task"}) {
    EXPECT_TRUE(contains(page, part)) << part << " is not in " << page;
  }
  EXPECT_EQ(read_csv(path("out/mad/scores.csv")).rows.size(), 2u * 3 * 2) << "tasks, mixers, seeds";
  EXPECT_TRUE(fs::exists(path("out/mad/scores.png")));
}

TEST_F(ReproduceProgram, OperatorsAreTimed) {
  EXPECT_TRUE(contains(reproduce("fig2"), "DPLR takes"));
  EXPECT_TRUE(contains(reproduce("complexity"), "| 256 |"));
  for (const char* file : {"fig2/times.csv", "fig2/times.png", "complexity/complexity.csv", "complexity/flops.png"}) {
    EXPECT_TRUE(fs::exists(path("out") + "/" + file)) << file;
  }
}

TEST_F(ReproduceProgram, Capacity) {
  const Finished run = klab({"capacity", "gdn", "--widths", "8", "--loads", "0.25,0.5", "--lrs", "1e-2",
                             "--train.steps", "400", "--out", path("capacity"), "--quiet"});
  ASSERT_EQ(run.status, 0) << run.err;
  const CsvTable tried = read_csv(path("capacity/tried.csv")), held = read_csv(path("capacity/capacity.csv"));
  ASSERT_EQ(tried.rows.size(), 2u);
  int64_t most = 0;
  for (const auto& row : tried.rows) {
    if (std::stod(row[tried.column("acc_tok")]) >= 0.99) most = std::stoll(row[tried.column("pairs")]);
  }
  ASSERT_EQ(held.rows.size(), 1u);
  EXPECT_EQ(held.rows[0][held.column("memory")], "16");
  EXPECT_EQ(std::stoll(held.rows[0][held.column("held")]), most);
  EXPECT_TRUE(fs::exists(path("capacity/capacity.png")));
  EXPECT_EQ(klab({"capacity", "kdaa"}).status, 2);
}

TEST_F(ReproduceProgram, OptionsThatDoNotGoWithAFigure) {
  const auto refused = [&](std::vector<std::string> arguments, const std::string& words) {
    arguments.insert(arguments.end(), {"--out", path("none")});
    const Finished run = klab(arguments);
    EXPECT_EQ(run.status, 2);
    EXPECT_TRUE(contains(run.err, words)) << run.err;
  };
  refused({"reproduce", "fig2", "--redraw"}, "fig2 does not accept --redraw: ");
  refused({"reproduce", "fig1", "--device", "cuda"}, "fig1 does not accept --device: ");
  refused({"reproduce", "fig4", "--threads", "2"}, "fig4 does not accept --threads: ");
  refused({"reproduce", "fig1", "--redraw"}, "none/fig1/measured.csv");
  refused({"capacity", "gdn", "--rates", "1e-2"}, "--rates is now --lrs");
  EXPECT_FALSE(fs::exists(path("none")));
}

TEST_F(ReproduceProgram, Refusals) {
  const Finished paper = klab({"reproduce", "fig1", "--scale", "paper"});
  EXPECT_EQ(paper.status, 2);
  EXPECT_TRUE(contains(paper.err, "no scale `paper`")) << paper.err;
}

}  // namespace
}  // namespace klab
