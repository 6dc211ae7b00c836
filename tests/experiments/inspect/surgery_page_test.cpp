// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/surgery_page.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/base/file.h"
#include "core/base/support.h"

namespace klab {
namespace {

SurgeryPoint edited_point(int64_t pairs, StateEdit edit) {
  const bool read = edit == StateEdit::read, others = pairs > 1;
  const auto when = [](bool known, SampleMean value) { return known ? value : SampleMean{}; };
  return {pairs,
          edit,
          4,
          {0.5, 0.125},
          {0.25, 0.0625},
          when(!read && others, {1.5, 0.25}),
          when(others, {0.375, 0.125}),
          when(read, {0.75, 0.25}),
          when(!read, {1, 0}),
          when(!read && others, {0.625, 0.125})};
}

Surgery edited_run(const std::string& run, const std::string& mixer) {
  Surgery surgery;
  surgery.options.run = run;
  surgery.step = 40;
  surgery.mixer = {1, -1, mixer};
  surgery.heads = 2;
  surgery.key_dim = 8;
  surgery.value_dim = 16;
  surgery.attention = 0.5;
  for (const int64_t pairs : {1, 2}) {
    for (const StateEdit edit : {StateEdit::read, StateEdit::overwrite, StateEdit::erase}) {
      surgery.points.push_back(edited_point(pairs, edit));
    }
  }
  return surgery;
}

size_t embedded_figures(const std::string& page) {
  size_t figures = 0;
  for (size_t at = page.find("<figure"); at != std::string::npos; at = page.find("<figure", at + 1)) ++figures;
  return figures;
}

TEST(SurgeryTable, HasARowPerRunPairsAndOperation) {
  const CsvTable table =
      surgery_table({edited_run("runs/a", "kda"), edited_run("runs/b", "mamba2")}, {"made by: a test"});
  EXPECT_EQ(table.comments, std::vector<std::string>{"made by: a test"});
  EXPECT_EQ(table.columns, (std::vector<std::string>{"run",
                                                     "layer",
                                                     "part",
                                                     "mixer",
                                                     "key_dim",
                                                     "pairs",
                                                     "load",
                                                     "operation",
                                                     "examples",
                                                     "success",
                                                     "success_se",
                                                     "error",
                                                     "error_se",
                                                     "damage",
                                                     "damage_se",
                                                     "overlap",
                                                     "overlap_se",
                                                     "answers_right",
                                                     "answers_right_se",
                                                     "answers_changed",
                                                     "answers_changed_se",
                                                     "answers_kept",
                                                     "answers_kept_se"}));
  ASSERT_EQ(table.rows.size(), 12u);
  EXPECT_EQ(table.rows[0], (std::vector<std::string>{"runs/a", "1",    "",      "kda",  "8",      "1", "0.125", "read",
                                                     "4",      "0.5",  "0.125", "0.25", "0.0625", "",  "",      "",
                                                     "",       "0.75", "0.25",  "",     "",       "",  ""}));
  EXPECT_EQ(table.rows[4],
            (std::vector<std::string>{"runs/a", "1",   "",      "kda",  "8",      "2",     "0.25", "overwrite",
                                      "4",      "0.5", "0.125", "0.25", "0.0625", "1.5",   "0.25", "0.375",
                                      "0.125",  "",    "",      "1",    "0",      "0.625", "0.125"}));
  EXPECT_EQ(table.rows[6][table.column("run")], "runs/b");
}

TEST(SurgerySummary, IsOfTheMostPairs) {
  const std::string text = surgery_summary({edited_run("runs/a", "kda"), edited_run("runs/b", "kda")});
  EXPECT_CONTAINS(text, "KDA (runs/a)");
  EXPECT_CONTAINS(text, "KDA (runs/b)");
  EXPECT_CONTAINS(text, "62.5 ± 12.5 %");
  EXPECT_CONTAINS(text, "0.250");
  EXPECT_FALSE(contains(text, "0.125"));
}

TEST(SurgeryPage, DrawsACurvePerRunAndEscapesNames) {
  const Folder folder;
  const std::string page =
      surgery_page({edited_run("runs/<b>", "kda"), edited_run("runs/c", "gdn")}, {"command: klab <x>"}, folder.path());
  EXPECT_EQ(embedded_figures(page), 8u);
  EXPECT_EQ(folder.entries(), 8u);
  EXPECT_EQ(read_file(folder / "surgery_overwrite_damage.png").substr(1, 3), "PNG");
  EXPECT_FALSE(contains(page, "<b>"));
  EXPECT_FALSE(contains(page, "<x>"));
  EXPECT_CONTAINS(page, "runs/&lt;b&gt;");
  EXPECT_CONTAINS(page, "layer 1: kda");
  EXPECT_CONTAINS(page, "2 heads of 8 x 16");
}

TEST(SurgeryPage, LeavesOutWhatOneAssociationCannotShow) {
  const Folder folder;
  Surgery surgery = edited_run("runs/a", "kda");
  surgery.points.resize(3);  // one pair: no other values
  EXPECT_EQ(embedded_figures(surgery_page({surgery}, {}, folder.path())), 4u);
}

}  // namespace
}  // namespace klab
