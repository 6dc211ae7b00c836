// SPDX-License-Identifier: Apache-2.0
// klab plot on files: the content of plots, and errors.
#include "core/base/file.h"
#include "core/base/support.h"
#include "core/base/text.h"
#include "experiments/cli/support.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

class Plot : public ProgramTest {
 protected:
  // Writes the CSV and plots it with the flags `more`; returns the text of the SVG.
  std::string draw(const std::string& csv, const std::vector<std::string>& more = {}) {
    write_file(path("a.csv"), csv);
    return draw_files({path("a.csv")}, more);
  }

  std::string draw_files(const std::vector<std::string>& files, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"plot", "--out", path("a.svg")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.insert(arguments.end(), files.begin(), files.end());
    const Finished run = klab(arguments);
    EXPECT_EQ(run.status, 0) << run.err;
    return run.status == 0 ? read_file(path("a.svg")) : "";
  }

  // The message must contain `words`, and no plot may be written.
  void expect_refused(const std::string& csv, int status, const std::string& words,
                      const std::vector<std::string>& more = {}) {
    write_file(path("bad.csv"), csv);
    std::vector<std::string> arguments = {"plot", path("bad.csv"), "--out", path("bad.svg")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Finished run = klab(arguments);
    EXPECT_EQ(run.status, status) << run.err;
    EXPECT_NE(run.err.find(words), std::string::npos) << run.err;
    EXPECT_FALSE(fs::exists(path("bad.svg")));
  }
};

// Bands are the only transparent shapes.
bool has_band(const std::string& svg) { return contains(svg, "fill-opacity = '0.160000'"); }

TEST_F(Plot, BadTables) {
  expect_refused("step,loss\n", 1, "bad.csv: it has a header and no rows");
  expect_refused("step,loss\n1,2\n2,fast\n", 1, "bad.csv, row 2: loss = 'fast' is not a finite number");
  expect_refused("step,loss\n1,2\n2,nan\n", 1, "bad.csv, row 2: loss = 'nan' is not a finite number");
  expect_refused("step,loss\n1,2\nlast,1\n", 1, "bad.csv, row 2: step = 'last' is not a finite number");
  expect_refused("step,loss\n0,2\n1,1\n", 1, "bad.csv, row 1: step = 0 has no place on a logarithmic axis",
                 {"--log-x"});
  expect_refused("mixer,note\nkda,good\n", 2, "no column holds numbers");
}

TEST_F(Plot, BadChoices) {
  const std::string csv = "step,split,loss\n1,train,2\n2,train,1\n";
  expect_refused(csv, 2, "there is no column 'los'; did you mean 'loss'? Columns: step, split, loss", {"--y", "los"});
  expect_refused(csv, 2, "there is no column 'mixer'", {"--group-by", "mixer"});
  expect_refused(csv, 2, "no row is of that split. Splits: train, all", {"--split", "test"});
  expect_refused(csv, 2, "x and y are both the column 'loss'", {"--x", "loss"});
  expect_refused(csv, 2, "font_scale = nan", {"--font-scale", "nan"});
  const Finished run = klab({"plot", path("bad.csv"), "--out", path("a.pdf")});
  EXPECT_EQ(run.status, 2);
  EXPECT_TRUE(contains(run.err, "ends in '.pdf'; pictures are .png or .svg")) << run.err;
}

TEST_F(Plot, DrawsPng) {
  write_file(path("a.csv"), "step,loss\n1,2\n2,1\n");
  EXPECT_EQ(klab({"plot", path("a.csv"), "--out", path("new/a.png")}).status, 0);
  EXPECT_EQ(read_file(path("new/a.png")).substr(1, 3), "PNG");
}

TEST_F(Plot, EverySeedIsAThinLine) {
  const std::string one = "step,mixer,seed,loss\n1,kda,1,2.0\n2,kda,1,1.0\n1,gdn,1,2.2\n2,gdn,1,1.9\n";
  const std::string alone = draw(one);
  EXPECT_FALSE(has_band(alone));
  EXPECT_FALSE(contains(alone, "mean of"));
  const std::string svg = draw(one + "1,kda,2,2.1\n2,kda,2,1.2\n1,gdn,2,2.3\n2,gdn,2,1.6\n");
  EXPECT_FALSE(has_band(svg));
  EXPECT_TRUE(contains(svg, "mean of 2 seeds; thin lines: each"));
  EXPECT_TRUE(contains(svg, ">KDA<"));
  EXPECT_TRUE(contains(svg, ">GDN<"));
}

TEST_F(Plot, AVariedParameterIsACurveAndAScheduleIsNone) {
  const std::string varied = draw("step,lr,loss\n1,0.01,2\n2,0.01,1\n1,0.1,3\n2,0.1,4\n");
  EXPECT_TRUE(contains(varied, ">learning rate<"));
  EXPECT_TRUE(contains(varied, ">0.01<"));
  EXPECT_FALSE(contains(draw("step,lr,loss\n1,0.01,2\n2,0.005,1\n"), ">0.005<"));
}

TEST_F(Plot, TestRowsAreDrawnWhereThereAreSome) {
  const std::string csv = "step,split,loss\n1,train,7\n2,train,6\n1,test,3\n2,test,2\n";
  EXPECT_FALSE(contains(draw(csv), ">train<"));
  EXPECT_TRUE(contains(draw(csv, {"--split", "all"}), ">train<"));
}

TEST_F(Plot, RunsAreNamedByTheirFolders) {
  for (const char* run : {"first", "second"}) {
    fs::create_directory(path(run));
    write_file(path(std::string(run) + "/metrics.csv"), "step,loss\n1,2\n2,1\n");
  }
  const std::string svg = draw_files({path("first"), path("second/metrics.csv")});
  EXPECT_TRUE(contains(svg, ">first<"));
  EXPECT_TRUE(contains(svg, ">second<"));
  EXPECT_FALSE(has_band(svg));  // two runs are not replicates of one
}

TEST_F(Plot, TextsAlongXAreBars) {
  const std::string svg = draw("mixer,seed,seconds\nkda,1,2\nkda,2,3\nmamba2,1,4\nmamba2,2,4\n");
  EXPECT_TRUE(contains(svg, ">Mamba-2<"));
  EXPECT_TRUE(contains(svg, ">time (s)<"));
  EXPECT_TRUE(contains(svg, "mean of 2 seeds; dots: each"));
}

TEST_F(Plot, RunsThatEndedStayAtTheirLastValue) {
  const std::string svg = draw("step,seed,acc_seq\n1,1,0.5\n2,1,1\n1,2,0\n2,2,0\n3,2,0\n", {"--y", "acc_seq"});
  EXPECT_TRUE(contains(svg, "runs that ended stay at their last value"));
  const std::string all = draw("step,seed,acc_seq\n1,1,0.5\n2,1,1\n1,2,0\n2,2,0\n", {"--y", "acc_seq"});
  EXPECT_FALSE(contains(all, "runs that ended"));
}

// The points of the report's figure 5, whose fits in the report are 2.3092 C^-0.0536 and 2.2879 C^-0.0527.
TEST_F(Plot, PowerLawsThroughTheReportsPoints) {
  const std::string csv =
      "model,compute,loss\nMLA,1.70,2.250\nMLA,3.50,2.152\nMLA,6.45,2.088\nMLA,9.39,2.051\nMLA,14.6,2.002\n"
      "hybrid,1.76,2.226\nhybrid,3.64,2.131\nhybrid,6.76,2.067\nhybrid,9.87,2.031\nhybrid,15.4,1.983\n";
  write_file(path("points.csv"), csv);
  const Finished run = klab({"plot", path("points.csv"), "--x", "compute", "--fit", "power", "--out", path("a.svg")});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_TRUE(contains(run.out, "MLA: 2.3093 x^-0.0535 ± 0.0050\n")) << run.out;
  EXPECT_TRUE(contains(run.out, "hybrid: 2.288 x^-0.0526 ± 0.0046\n")) << run.out;
  EXPECT_TRUE(contains(read_file(path("a.svg")), "MLA: 2.3093 x^-0.0535"));
}

TEST_F(Plot, PowerLawsNeedPoints) {
  const std::vector<std::string> fit = {"--x", "n", "--y", "loss", "--fit", "power"};
  expect_refused("n,loss\n1,2\n", 2, "has one point, and a line needs two", fit);
  expect_refused("n,loss\n1,2\n2,0\n", 1, "row 2: loss = 0 has no place on a logarithmic axis", fit);
  expect_refused("n,loss\na,2\nb,1\n", 2, "fit = power: n holds names, not numbers", fit);
  expect_refused("n,loss\n1,2\n2,1\n", 2, "a line needs points, not bars",
                 {"--x", "n", "--y", "loss", "--fit", "power", "--bars"});
}

TEST_F(Plot, NumbersAlongXMakeBarsWhenAsked) {
  const std::string csv = "length,mixer,acc_seq\n64,kda,1\n64,gdn,0.5\n32,kda,1\n32,gdn,1\n";
  const std::string bars = draw(csv, {"--x", "length", "--bars"}), lines = draw(csv, {"--x", "length"});
  EXPECT_NE(bars, lines);
  EXPECT_LT(bars.find(">32<"), bars.find(">64<")) << "bars are in numeric order";
}

TEST_F(Plot, WhereKeepsRows) {
  const std::string csv = "step,task,loss\n1,[a],1\n2,[a],2\n1,[b],30\n2,[b],40\n";
  EXPECT_FALSE(contains(draw(csv, {"--where", "task=a", "--group-by", "task"}), ">b<"));
  expect_refused(csv, 2, "where = task=c: no row has that. There are: [a], [b]", {"--where", "task=c"});
  expect_refused(csv, 2, "must be column=value", {"--where", "task"});
}

TEST_F(Plot, HeatMaps) {
  const std::string csv =
      "length,depth,model,acc\n32,0,x,0.25\n32,0,x,0.75\n64,0,x,1\n32,1,y,0\n64,1,y,0.125\n64,all,y,0.3\n";
  const std::string svg =
      draw(csv, {"--heat", "acc", "--x", "length", "--y", "depth", "--group-by", "model", "--where", "depth=0"});
  EXPECT_TRUE(contains(svg, "0.5")) << "rows with equal x and y are averaged";
  EXPECT_TRUE(contains(draw(csv, {"--heat", "acc", "--x", "length", "--y", "depth", "--group-by", "model"}), "0.12"));
  expect_refused(csv, 2, "heat = acc: say --x and --y too", {"--heat", "acc"});
}

// Names are text for gnuplot, never commands, markup or formats.
TEST_F(Plot, HostileNames) {
  const std::string touch = "touch " + path("pwned");
  for (const std::string& title : std::vector<std::string>{
           "' . system('" + touch + "') . '", "\" . system('" + touch + "') . \"", "\\\" . system('" + touch + "') #",
           "`" + touch + "`", "\\`" + touch + "`", "'", "''a'''", "a\\"}) {
    const std::string svg = draw("step,loss\n1,1\n2,2\n", {"--title", title, "--y-label", title});
    EXPECT_TRUE(contains(svg, "<text>" + title + "</text>")) << title;
  }
  const std::string command = "`" + touch + "`";
  for (const char* x : {"step", "note"}) {  // names in the legend, and as tic labels of bars
    const std::string svg = draw("step,note,loss\n1,\"" + command + "\",1\n1,@a_{b} 50%\\n,2\n2,'',3\n", {"--x", x});
    for (const std::string& name : {command, std::string("@a_{b} 50%\\n"), std::string("''")}) {
      EXPECT_TRUE(contains(svg, "<text>" + name + "</text>")) << name;
    }
  }
  EXPECT_FALSE(fs::exists(path("pwned")));
}

TEST_F(Plot, HostileFileNamesAndNothingLeftBehind) {
  const std::string out = path("|touch 'pwned' \"$(x)\" %d.svg");
  write_file(path("a.csv"), "step,loss\n1,1\n2,2\n");
  EXPECT_EQ(klab({"plot", path("a.csv"), "--out", out}).status, 0);
  EXPECT_TRUE(contains(read_file(out), "</svg>"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 2);  // a.csv and the picture
}

}  // namespace
}  // namespace klab
