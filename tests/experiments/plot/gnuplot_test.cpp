// SPDX-License-Identifier: Apache-2.0
#include "experiments/plot/gnuplot.h"

#include <gtest/gtest.h>

#include "core/base/file.h"
#include "core/base/process.h"
#include "core/base/support.h"

namespace klab {
namespace {

// What gnuplot reads a text as.
std::string printed_by_gnuplot(const std::string& text) {
  const Folder folder;
  write_file(folder / "script", "print " + gnuplot_text(text) + "\n");
  return output_of({"gnuplot", "--default-settings"}, {folder / "script", ""});
}

TEST(GnuplotText, EscapesWhatWouldEndTheStringOrRunACommand) {
  EXPECT_EQ(gnuplot_text("plain text"), "\"plain text\"");
  EXPECT_EQ(gnuplot_text(""), "\"\"");
  EXPECT_EQ(gnuplot_text("say \"x\""), "\"say \\\"x\\\"\"");
  EXPECT_EQ(gnuplot_text("a\\"), "\"a\\\\\"");
  EXPECT_EQ(gnuplot_text("`id`"), "\"\\140id\\140\"");
}

TEST(GnuplotText, LeavesTheRestAsItIs) {
  for (const std::string text : {"acc_tok", "x^{2}", "@a&b", "it's", "ä → ö ± 1", "$c0", "#1"}) {
    EXPECT_EQ(gnuplot_text(text), "\"" + text + "\"");
  }
}

TEST(GnuplotText, LineBreaksAndControlCharactersAreBlanks) {
  EXPECT_EQ(gnuplot_text("two\nlines\r\tand\x01more"), "\"two lines  and more\"");
}

TEST(GnuplotText, PercentSignsAreFormatsInTicsOnly) {
  EXPECT_EQ(gnuplot_text("50 %"), "\"50 %\"");
  EXPECT_EQ(gnuplot_text("50 %", /*tic=*/true), "\"50 %%\"");
  EXPECT_EQ(gnuplot_text("%%g", /*tic=*/true), "\"%%%%g\"");
}

TEST(GnuplotText, IsReadBackByGnuplot) {
  for (const std::string text :
       {"a_b^{c}", "'", "''a'''", "\"", "\\", "\\\\", "\\n", "\\\"", "`echo x`", "\\`", "$(echo x)", "50 %d", "ä → ö",
        "\" . system('echo x') . \"", "x\" ; print \"y", "#", "@x", "end \\"}) {
    EXPECT_EQ(printed_by_gnuplot(text), text);
  }
}

const char* const kSvg = "set terminal svg\nplot x\n";

TEST(RunGnuplot, WritesThePictureAndNothingElse) {
  const Folder folder;
  run_gnuplot(kSvg, folder / "new/a.svg");
  EXPECT_CONTAINS(read_file(folder / "new/a.svg"), "</svg>");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder / "new"), {}), 1);
}

TEST(RunGnuplot, LeavesTheOldPictureWhereItFails) {
  const Folder folder;
  write_file(folder / "a.svg", "old");
  EXPECT_CONTAINS(failure_of([&] { run_gnuplot("set terminal svg\nplot no_such_name\n", folder / "a.svg"); }),
                  "no_such_name");
  EXPECT_EQ(read_file(folder / "a.svg"), "old");
  EXPECT_CONTAINS(failure_of([&] { run_gnuplot("print 'a word'\n", folder / "a.svg"); }),
                  "a word");  // an empty picture
  EXPECT_EQ(read_file(folder / "a.svg"), "old");
  EXPECT_EQ(folder.entries(), 1u);
  run_gnuplot(kSvg, folder / "a.svg");
  EXPECT_CONTAINS(read_file(folder / "a.svg"), "</svg>");
}

TEST(RunGnuplot, TakesFileNamesAsTheyAre) {
  const Folder folder;
  const std::string out = folder / "|touch 'x' $(y) %d \".svg";
  run_gnuplot(kSvg, out);
  EXPECT_CONTAINS(read_file(out), "</svg>");
  EXPECT_EQ(folder.entries(), 1u);
}

}  // namespace
}  // namespace klab
