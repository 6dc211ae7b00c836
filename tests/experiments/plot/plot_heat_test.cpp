// SPDX-License-Identifier: Apache-2.0
#include "experiments/plot/plot_heat.h"

#include <gtest/gtest.h>

#include "experiments/plot/gnuplot.h"
#include "experiments/plot/support.h"

namespace klab {
namespace {

PlotOptions heat_of(const std::string& column) {
  PlotOptions options;
  options.heat = column;
  options.x = "length";
  options.y = "depth";
  return options;
}

std::string script_of(const std::string& csv, const PlotOptions& options) {
  return heat_script(plot_data(csv, options), options, "svg");
}

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

const std::string kCells = "length,depth,model,acc\n64,1,x,0.5\n8,1,x,0.25\n8,0,x,0.5\n8,0,x,1\n64,0,y,0\n";

TEST(HeatScript, AveragesRowsThatShareAPlaceInTheOrderOfNumbers) {
  const std::string script = script_of(kCells, heat_of("acc"));
  EXPECT_CONTAINS(script, "$h0 << EOD\n0 0 0.75\n0 1 0.25\n1 0 0\n1 1 0.5\nEOD\n");
  EXPECT_CONTAINS(script, "set xtics (\"8\" 0, \"64\" 1)\n");
  EXPECT_CONTAINS(script, "set ytics (\"0\" 0, \"1\" 1)\n");
}

TEST(HeatScript, HasAPanelForEachGroup) {
  PlotOptions options = heat_of("acc");
  EXPECT_CONTAINS(script_of(kCells, options), "layout 1,1");
  options.group_by = "model";
  const std::string script = script_of(kCells, options);
  EXPECT_CONTAINS(script, "layout 1,2");
  EXPECT_CONTAINS(script, "set title \"x\"\nplot $h0 ");
  EXPECT_CONTAINS(script, "set title \"y\"\nplot $h1 ");
  options.group_by = "none";
  EXPECT_CONTAINS(script_of(kCells, options), "layout 1,1");
}

TEST(HeatScript, SharesHaveAllTheSameColours) {
  EXPECT_CONTAINS(script_of("length,depth,acc\n1,1,0.4\n2,1,0.6\n", heat_of("acc")), "set cbrange [0:1]\n");
  EXPECT_CONTAINS(script_of("length,depth,loss\n1,1,2\n2,1,0.5\n", heat_of("loss")), "set cbrange [0.5:2]\n");
  EXPECT_CONTAINS(script_of("length,depth,loss\n1,1,3\n2,1,3\n", heat_of("loss")), "set cbrange [3:4]\n");
}

// Means of 11 and 5: 33, the sum of the first cell, is none of them.
TEST(HeatScript, ColoursRangeOverTheMeans) {
  EXPECT_CONTAINS(script_of("length,depth,loss\n1,1,10\n1,1,11\n1,1,12\n2,1,5\n", heat_of("loss")),
                  "set cbrange [5:11]\n");
}

TEST(HeatScript, AWordAmongNumbersHasNoPlace) {
  const std::string script = script_of("length,depth,acc\n8,0,0.5\n8,all,0.7\n8,1,word\n", heat_of("acc"));
  EXPECT_CONTAINS(script, "$h0 << EOD\n0 0 0.5\nEOD\n");
  EXPECT_CONTAINS(script, "set ytics (\"0\" 0, \"1\" 1)\n");
  EXPECT_CONTAINS(script_of("length,depth,acc\n8,low,0.5\n8,high,0.7\n", heat_of("acc")),
                  "set ytics (\"low\" 0, \"high\" 1)\n");
}

TEST(HeatScript, AnEmptyCellIsNoPlace) {
  const std::string script = script_of("length,depth,acc\n8,low,0.5\n8,,0.7\n,low,0.7\n8,high,\n", heat_of("acc"));
  EXPECT_CONTAINS(script, "$h0 << EOD\n0 0 0.5\nEOD\n");
  EXPECT_CONTAINS(script, "set ytics (\"low\" 0, \"high\" 1)\n");
}

TEST(HeatScript, EveryNameHasATicButNotEveryNumber) {
  std::string names = "length,depth,acc\n", numbers = names;
  for (int i = 0; i < 32; ++i) {
    names += "1,n" + std::to_string(i) + ",0.5\n";
    numbers += "1," + std::to_string(i) + ",0.5\n";
  }
  EXPECT_CONTAINS(script_of(names, heat_of("acc")), "\"n1\" 1, \"n2\" 2");
  EXPECT_CONTAINS(script_of(numbers, heat_of("acc")), "set ytics (\"0\" 0, \"2\" 2, ");
}

TEST(HeatScript, ACellThatIsNotFiniteIsNamed) {
  for (const char* value : {"nan", "inf"}) {
    const std::string csv = std::string("length,depth,loss\n1,1,2\n2,1,") + value + "\n";
    EXPECT_CONTAINS(failure_of([&] { script_of(csv, heat_of("loss")); }), std::string("loss = '") + value + "'");
  }
}

TEST(HeatScript, WritesNumbersWhereThereIsRoom) {
  std::string few = "length,depth,acc\n", many = few;
  for (int i = 0; i < 150; ++i) few += std::to_string(i) + ",0,0.5\n";
  for (int i = 0; i < 151; ++i) many += std::to_string(i) + ",0,0.5\n";
  EXPECT_CONTAINS(script_of(few, heat_of("acc")), "with labels");
  EXPECT_FALSE(contains(script_of(many, heat_of("acc")), "with labels"));
}

TEST(HeatScript, RefusesWhatNobodyCouldRead) {
  const auto refusal = [](const std::string& csv, const PlotOptions& options) {
    return message_of<UsageError>([&] { script_of(csv, options); });
  };
  PlotOptions unnamed = heat_of("acc");
  unnamed.x = "";
  EXPECT_CONTAINS(refusal(kCells, unnamed), "--x");
  unnamed = heat_of("acc");
  unnamed.y = "";
  EXPECT_CONTAINS(refusal(kCells, unnamed), "--y");
  EXPECT_CONTAINS(refusal(kCells, heat_of("ac")), "'acc'");
  EXPECT_CONTAINS(failure_of([&] { script_of("length,depth,acc\n1,2,x\n", heat_of("acc")); }), "heat = acc");

  std::string cells = "length,depth,acc\n", panels = "length,depth,model,acc\n";
  for (int i = 0; i < 65; ++i) cells += std::to_string(i) + "," + std::to_string(i) + ",1\n";
  EXPECT_CONTAINS(refusal(cells, heat_of("acc")), "65 x 65");
  PlotOptions grouped = heat_of("acc");
  grouped.group_by = "model";
  for (int i = 0; i < 12; ++i) panels += "1,1,m" + std::to_string(i) + ",1\n";
  EXPECT_EQ(count(script_of(panels, grouped), "with image"), 12u);
  EXPECT_CONTAINS(refusal(panels + "1,1,one more,1\n", grouped), "13 heat maps");
}

TEST(HeatScript, IsDrawnByGnuplotWhateverTheTexts) {
  PlotOptions options = heat_of("acc");
  options.group_by = "model";
  options.title = options.x_label = "a_{b} \"c\" `d` \\n %d ä";
  const Folder folder;
  const std::string csv =
      "length,depth,model,acc\n\"`x` %d\",0,\"\"\"q\"\"\",0.5\n\\,1,b_c,0.25\n\\,1,\"\"\"q\"\"\",1\n";
  run_gnuplot(script_of(csv, options), folder / "a.svg");
  const std::string svg = read_file(folder / "a.svg");
  for (const char* text : {"`x` %d", "\"q\"", "b_c", "a_{b} \"c\" `d` \\n %d ä", "0.25"}) EXPECT_CONTAINS(svg, text);
}

}  // namespace
}  // namespace klab
