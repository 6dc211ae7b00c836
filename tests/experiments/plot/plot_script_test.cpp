// SPDX-License-Identifier: Apache-2.0
#include "experiments/plot/plot_script.h"

#include <gtest/gtest.h>

#include <cstring>

#include "experiments/plot/gnuplot.h"
#include "experiments/plot/support.h"

namespace klab {
namespace {

std::string script_of(const std::string& csv, const PlotOptions& options = {}) {
  return gnuplot_script(picture_of(csv, options), options, "svg");
}

// The picture that gnuplot makes of the script.
std::string svg_of(const std::string& csv, const PlotOptions& options = {}) {
  const Folder folder;
  run_gnuplot(script_of(csv, options), folder / "a.svg");
  return read_file(folder / "a.svg");
}

const std::string kLine = "step,loss\n1,4\n2,2\n";

TEST(GnuplotScript, HoldsTheDataInTheUnitsThatAreDrawn) {
  EXPECT_CONTAINS(script_of("step,seed,loss\n1,1,4\n1,2,6\n2,1,2\n2,2,2\n"), "$c0 << EOD\n1 5 4 6\n2 2 2 2\nEOD\n");
  EXPECT_CONTAINS(script_of("step,acc_seq\n1,0.25\n2,0.5\n"), "$c0 << EOD\n1 25 25 25\n2 50 50 50\nEOD\n");
  EXPECT_CONTAINS(script_of("step,tokens\n1,2000000\n2,4000000\n"), "$c0 << EOD\n1 2000 2000 2000\n");
}

TEST(GnuplotScript, TurnsMarkupOff) {
  EXPECT_CONTAINS(script_of(kLine), " noenhanced ");
  EXPECT_CONTAINS(script_of(kLine), "set encoding utf8\n");
}

TEST(GnuplotScript, QuotesEveryText) {
  const std::string hostile = "a_{b} \"c\" `d` \\n ä\ne";
  const std::string quoted = "\"a_{b} \\\"c\\\" \\140d\\140 \\\\n ä e\"";
  ASSERT_EQ(gnuplot_text(hostile), quoted);
  PlotOptions options;
  options.title = options.x_label = options.y_label = hostile;
  const std::string script = script_of(kLine, options);
  for (const char* place : {"set title ", "set xlabel ", "set ylabel "}) EXPECT_CONTAINS(script, place + quoted);
  EXPECT_FALSE(contains(script, hostile));
}

TEST(GnuplotScript, TextsComeOutAsTheyWent) {
  for (const std::string title : {"acc_tok^{2} & <x>", "it's \"quoted\"", "back\\slash \\n", "ä → ö ± 1 %", "`id`"}) {
    PlotOptions options;
    options.title = title;
    options.y_label = title + ".";
    std::string shown = svg_of(kLine, options);
    for (const auto& [from, to] : {std::pair("&lt;", "<"), std::pair("&gt;", ">"), std::pair("&amp;", "&")}) {
      for (size_t at = 0; (at = shown.find(from, at)) != std::string::npos;) shown.replace(at, std::strlen(from), to);
    }
    EXPECT_TRUE(contains(shown, "<text>" + title + "</text>") || contains(shown, ">" + title + "<")) << shown;
    EXPECT_TRUE(contains(shown, title + ".")) << title;
  }
}

TEST(GnuplotScript, BothTerminalsDrawCurvesBarsAndFits) {
  PlotOptions fit;
  fit.x = "n";
  fit.fit = "power";
  PlotOptions large;
  large.width = 400;
  large.height = 300;
  large.font_scale = 2;
  large.title = "small picture, large letters";
  const std::string seeds = "step,mixer,seed,loss\n1,a,1,1\n2,a,1,2\n1,a,2,2\n2,a,2,1\n1,b,1,3\n2,b,1,4\n";
  const std::pair<std::string, PlotOptions> cases[] = {{kLine, {}},
                                                       {seeds, {}},
                                                       {seeds, large},
                                                       {"mixer,seed,acc_seq\na,1,0.5\nb,1,1\na,2,0.1\n", {}},
                                                       {"mixer,acc_seq\na,0.5\nb,1\na,0.1\n", {}},
                                                       {"step,loss\n1,4\n1,2\n2,3\n", {}},
                                                       {"n,loss\n1,1\n2,3\n4,4\n", fit},
                                                       {"step,acc_seq\n1,0\n1,0\n", {}}};
  const Folder folder;
  for (const auto& [csv, options] : cases) {
    run_gnuplot(gnuplot_script(picture_of(csv, options), options, "svg"), folder / "a.svg");
    EXPECT_CONTAINS(read_file(folder / "a.svg"), "</svg>") << csv;
    run_gnuplot(gnuplot_script(picture_of(csv, options), options, "pngcairo"), folder / "a.png");
    EXPECT_EQ(read_file(folder / "a.png").substr(1, 3), "PNG") << csv;
  }
}

TEST(GnuplotScript, TheSeedsOfAFitAreDots) {
  PlotOptions options;
  options.x = "n";
  const std::string csv = "n,seed,loss\n1,1,1\n1,2,3\n4,1,15\n4,2,25\n";
  EXPECT_CONTAINS(script_of(csv, options), "$s0 using 1:2 with lines");
  options.fit = "power";
  EXPECT_CONTAINS(script_of(csv, options), "$s0 using 1:2 with points");
}

TEST(GnuplotScript, HasTheAskedSize) {
  PlotOptions options;
  options.width = 640;
  options.height = 480;
  EXPECT_CONTAINS(script_of(kLine, options), "set terminal svg size 640,480 ");
  EXPECT_CONTAINS(svg_of(kLine, options), "viewBox=\"0 0 640 480\"");
}

TEST(GnuplotScript, OnlyRepeatsHaveBandsAndOnlyNamedCurvesALegend) {
  EXPECT_FALSE(contains(script_of(kLine), "filledcurves"));
  EXPECT_CONTAINS(script_of("step,loss\n1,4\n1,2\n"), "filledcurves");
  EXPECT_CONTAINS(script_of(kLine), "unset key");
  const std::string named = script_of("step,mixer,loss\n1,kda,4\n1,gdn,2\n");
  EXPECT_FALSE(contains(named, "unset key"));
  EXPECT_CONTAINS(named, "title \"KDA\"");
  EXPECT_CONTAINS(named, "title \"GDN\"");
}

TEST(GnuplotScript, SeedsAreThinLines) {
  const std::string script = script_of("step,seed,acc_seq\n1,1,0.25\n1,2,0.5\n2,1,0.5\n2,2,1\n3,2,1\n");
  EXPECT_CONTAINS(script, "$s0 << EOD\n1 25\n2 50\n\n1 50\n2 100\n3 100\n\nEOD\n");
  EXPECT_CONTAINS(script, "$s0 using 1:2 with lines lc rgb '#900072B2' lw 0.8 notitle");
  EXPECT_LT(script.find("$s0 using"), script.find("$c0 using")) << "below the mean";
  EXPECT_FALSE(contains(script, "filledcurves"));
  EXPECT_FALSE(contains(script_of("step,loss\n1,4\n1,2\n"), "$s0")) << "rows without seeds";
}

TEST(GnuplotScript, SeedsAreDotsOnBars) {
  const std::string script = script_of("mixer,seed,acc_seq\na,1,0.5\nb,1,1\na,2,0.25\nb,2,0.75\n");
  EXPECT_CONTAINS(script, "$d0 << EOD\n0 -0.25 50\n0 0.25 25\n1 -0.25 100\n1 0.25 75\nEOD\n");
  EXPECT_CONTAINS(script, "$d0 using ($1+0+$2*0.48):3 with points pt 7");
  EXPECT_LT(script.find("with boxes"), script.find("$d0 using")) << "on the bar";
  EXPECT_FALSE(contains(script, "with vectors"));
  const std::string whiskers = script_of("mixer,acc_seq\na,0.5\nb,1\na,0.25\n");
  EXPECT_CONTAINS(whiskers, "with vectors");
  EXPECT_FALSE(contains(whiskers, "$d0"));
}

// Straight lines from corner to corner leave two corners to the legend.
TEST(GnuplotScript, TheLegendStandsWhereNoCurveIs) {
  const std::string rising = "step,mixer,loss\n0,a,0\n100,a,100\n0,b,0\n100,b,90\n";
  EXPECT_CONTAINS(script_of(rising), "set key inside bottom right");
  const std::string falling = "step,mixer,loss\n0,a,100\n100,a,0\n0,b,90\n100,b,0\n";
  EXPECT_CONTAINS(script_of(falling), "set key inside top right");
  const std::string everywhere = rising + "0,c,100\n100,c,0\n50,c,0\n25,c,100\n75,c,100\n10,c,0\n90,c,0\n";
  EXPECT_CONTAINS(script_of(everywhere), "set key outside");
}

TEST(GnuplotScript, LogarithmicAxesAreSaid) {
  EXPECT_FALSE(contains(script_of(kLine), "set logscale"));
  PlotOptions options;
  options.log_y = true;
  EXPECT_CONTAINS(script_of(kLine, options), "set logscale y\n");
  EXPECT_CONTAINS(script_of("length,loss\n64,1\n128,2\n512,3\n"), "set logscale x\n");
}

TEST(GnuplotScript, APictureOfManyPointsIsSmall) {
  std::string csv = "step,loss\n";
  for (int i = 0; i < 200'000; ++i) csv += fmt::format("{},{}\n", i, i % 13);
  EXPECT_LT(svg_of(csv).size(), size_t{300'000});
}

TEST(GnuplotScript, PercentSignsInTicsAreNoFormats) {
  const std::string csv = "name,loss\n50 %d,1\nb,2\n";
  EXPECT_CONTAINS(script_of(csv), "\"50 %%d\" 0");
  EXPECT_CONTAINS(svg_of(csv), "50 %d");
}

}  // namespace
}  // namespace klab
