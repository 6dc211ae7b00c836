// SPDX-License-Identifier: Apache-2.0
#include "core/base/csv.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/base/file.h"
#include "core/base/support.h"

namespace klab {
namespace {

using Cells = std::vector<std::string>;

void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

CsvTable table() { return {{"klab 1", "seed: 3"}, {"step", "loss"}, {{"0", "1.5"}, {"1", ""}}}; }

TEST(Csv, RoundTrip) {
  const Folder folder;
  write(folder / "a.csv", table().text());
  const CsvTable read = read_csv(folder / "a.csv");
  EXPECT_EQ(read.comments, table().comments);
  EXPECT_EQ(read.columns, table().columns);
  EXPECT_EQ(read.rows, table().rows);
}

TEST(Csv, TextIsWhatOneExpects) { EXPECT_EQ(table().text(), "# klab 1\n# seed: 3\nstep,loss\n0,1.5\n1,\n"); }

TEST(Csv, CellsWithCommasQuotesAndBlanksSurvive) {
  const Folder folder;
  CsvTable hostile{{}, {"a, b", "plain"}, {}};
  for (const char* cell : {"x, y", "say \"no\"", "\"", "\"\"", ",", " lead", "trail ", "# no comment", ""}) {
    hostile.rows.push_back({cell, "1"});
    hostile.rows.push_back({"1", cell});
  }
  write(folder / "a.csv", hostile.text());
  const CsvTable read = read_csv(folder / "a.csv");
  EXPECT_EQ(read.columns, hostile.columns);
  EXPECT_EQ(read.rows, hostile.rows);
}

TEST(Csv, ALoneEmptyCellIsARow) {
  const Folder folder;
  const CsvTable lone{{}, {"a"}, {{""}, {"1"}}};
  write(folder / "a.csv", lone.text());
  EXPECT_EQ(read_csv(folder / "a.csv").rows, lone.rows);
}

TEST(Csv, ReadsCommentsBlankLinesAndWindowsLineEnds) {
  const Folder folder;
  write(folder / "a.csv", "#tight\r\n#\r\n\r\na, b\r\n1 , 2\r\n\r\n# later\r\n3,4");
  const CsvTable read = read_csv(folder / "a.csv");
  EXPECT_EQ(read.comments, (Cells{"tight", "", "later"}));
  EXPECT_EQ(read.columns, (Cells{"a", "b"}));
  EXPECT_EQ(read.rows, (std::vector<Cells>{{"1", "2"}, {"3", "4"}}));
}

TEST(Csv, AByteOrderMarkIsSkipped) {
  const Folder folder;
  const std::string mark = "\xEF\xBB\xBF";
  for (const std::string comment : {"", "# c\n", "\r\n"}) {
    write(folder / "a.csv", mark + comment + "step,loss\n1,2\n");
    const CsvTable read = read_csv(folder / "a.csv");
    EXPECT_EQ(read.columns, (Cells{"step", "loss"})) << comment;
    EXPECT_EQ(read.comments.size(), comment[0] == '#' ? 1u : 0u);
  }
  write(folder / "a.csv", mark + "\"a, b\",c\n" + mark + "1,2\n");
  const CsvTable read = read_csv(folder / "a.csv");
  EXPECT_EQ(read.columns, (Cells{"a, b", "c"}));
  EXPECT_EQ(read.rows[0][0], mark + "1") << "only at the beginning of the file";
}

TEST(Csv, ARaggedRowNamesItsLine) {
  const Folder folder;
  write(folder / "a.csv", "# c\na,b\n1,2\n3\n");
  EXPECT_CONTAINS(message_of<UsageError>([&] { read_csv(folder / "a.csv"); }),
                  "a.csv, line 4: 1 cells, but the header has 2 columns");
  write(folder / "a.csv", "a,b\n1,2,3\n");
  EXPECT_CONTAINS(message_of<UsageError>([&] { read_csv(folder / "a.csv"); }), "line 2: 3 cells");
}

TEST(Csv, AnOpenQuoteNamesItsLine) {
  const Folder folder;
  for (const char* row : {"\"1,2\n", "\"1\"x,2\n"}) {
    write(folder / "a.csv", std::string("a,b\n") + row);
    EXPECT_CONTAINS(message_of<UsageError>([&] { read_csv(folder / "a.csv"); }), "a.csv, line 2: ");
  }
}

TEST(Csv, WithoutAHeaderIsRefused) {
  const Folder folder;
  write(folder / "a.csv", "# only this\n");
  EXPECT_CONTAINS(message_of<UsageError>([&] { read_csv(folder / "a.csv"); }), "no header row");
}

TEST(Csv, AMissingFileIsAFailure) {
  const Folder folder;
  EXPECT_CONTAINS(failure_of([&] { read_csv(folder / "none.csv"); }), "none.csv");
}

TEST(Csv, AnUnknownColumnSuggestsTheNearest) {
  EXPECT_EQ(table().column("loss"), 1u);
  EXPECT_TRUE(table().has("step"));
  EXPECT_FALSE(table().has("steps"));
  EXPECT_EQ(message_of<UsageError>([] { table().column("los"); }),
            "there is no column 'los'; did you mean 'loss'? Columns: step, loss");
  EXPECT_EQ(message_of<UsageError>([] { table().column("throughput"); }),
            "there is no column 'throughput'. Columns: step, loss");
}

TEST(CsvWriter, AppendsRowsThatAreThereAtOnce) {
  const Folder folder;
  CsvWriter writer(folder / "a.csv", {{"c"}, {"a", "b"}, {}});
  writer.row({"1", "2"});
  EXPECT_EQ(read_csv(folder / "a.csv").rows, (std::vector<Cells>{{"1", "2"}}));
  writer.row({"3", "x, y"});
  writer.sync();
  EXPECT_EQ(read_csv(folder / "a.csv").rows, (std::vector<Cells>{{"1", "2"}, {"3", "x, y"}}));
}

TEST(CsvWriter, GoesOnWithTheRowsItIsGiven) {
  const Folder folder;
  {
    CsvWriter writer(folder / "a.csv", {{"c"}, {"a"}, {}});
    for (const char* cell : {"1", "2", "3"}) writer.row({cell});
  }
  CsvTable table = read_csv(folder / "a.csv");
  table.rows.pop_back();  // a run resumed from before its last row
  CsvWriter writer(folder / "a.csv", table);
  writer.row({"4"});
  const CsvTable read = read_csv(folder / "a.csv");
  EXPECT_EQ(read.comments, Cells{"c"});
  EXPECT_EQ(read.rows, (std::vector<Cells>{{"1"}, {"2"}, {"4"}}));
}

TEST(CsvWriter, AppendsToAFileThatExists) {
  const Folder folder;
  write(folder / "a.csv", "# c\na,b\n1,2\n");
  CsvWriter writer(folder / "a.csv", 2);
  EXPECT_THROW(writer.row({"3"}), Error);
  writer.row({"3", "4"});
  EXPECT_EQ(read_file(folder / "a.csv"), "# c\na,b\n1,2\n3,4\n");
}

TEST(CsvWriter, RefusesRowsThatCouldNotBeReadBack) {
  const Folder folder;
  CsvWriter writer(folder / "a.csv", {{}, {"a", "b"}, {}});
  EXPECT_CONTAINS(failure_of([&] { writer.row({"1"}); }), "a row of 1 cells, but 2 columns");
  EXPECT_CONTAINS(failure_of([&] { writer.row({"1", "two\nlines"}); }), "line break");
  EXPECT_TRUE(read_csv(folder / "a.csv").rows.empty());
}

TEST(CsvWriter, AnUnwritablePlaceIsAFailure) {
  const Folder folder;
  write(folder / "file", "x");
  EXPECT_CONTAINS(failure_of([&] { CsvWriter writer(folder / "file/a.csv", table()); }), "file/a.csv");
}

TEST(Csv, ACommentStaysOneLine) {
  const Folder folder;
  write(folder / "a.csv", CsvTable{{"command: a\nb"}, {"x"}, {{"1"}}}.text());
  const CsvTable read = read_csv(folder / "a.csv");
  EXPECT_EQ(read.comments, (Cells{"command: a", "b"}));
  EXPECT_EQ(read.columns, Cells{"x"});
}

}  // namespace
}  // namespace klab
