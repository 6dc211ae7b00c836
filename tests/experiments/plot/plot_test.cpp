// SPDX-License-Identifier: Apache-2.0
#include "experiments/plot/plot.h"

#include <gtest/gtest.h>

#include <limits>

#include "experiments/plot/support.h"

namespace klab {
namespace {

class PlotTest : public testing::Test {
 protected:
  PlotTest() {
    write_file(folder_ / "a.csv", "n,mixer,loss\n1,kda,2\n2,kda,4\n4,kda,8\n1,gdn,1\n2,gdn,1\n4,gdn,1\n");
    options_.files = {folder_ / "a.csv"};
    options_.out = folder_ / "a.svg";
    options_.x = "n";
  }

  // What plot() says of options that it refuses; there is no picture then.
  std::string refusal(const PlotOptions& options) const {
    const std::string message = message_of<UsageError>([&] { plot(options); });
    EXPECT_EQ(folder_.entries(), 1u);
    return message;
  }

  const Folder folder_;
  PlotOptions options_;
};

TEST_F(PlotTest, DrawsBothFormatsByTheEndingOfTheName) {
  EXPECT_TRUE(plot(options_).empty());
  EXPECT_CONTAINS(read_file(options_.out), "</svg>");
  options_.out = folder_ / "deep/er/a.png";
  plot(options_);
  EXPECT_EQ(read_file(options_.out).substr(1, 3), "PNG");
}

TEST_F(PlotTest, RefusesOtherFormats) {
  for (const char* name : {"a.pdf", "a", "a.svg.gz", ".svg", "a.SVG"}) {
    options_.out = folder_ / name;
    EXPECT_CONTAINS(refusal(options_), ".png or .svg");
  }
}

TEST_F(PlotTest, RefusesSizesThatMakeNoPicture) {
  const auto with = [&](int64_t width, int64_t height, double font_scale) {
    PlotOptions options = options_;
    options.width = width;
    options.height = height;
    options.font_scale = font_scale;
    return options;
  };
  EXPECT_CONTAINS(refusal(with(199, 750, 1)), "width = 199");
  EXPECT_CONTAINS(refusal(with(10001, 750, 1)), "width = 10001");
  EXPECT_CONTAINS(refusal(with(1200, 149, 1)), "height = 149");
  EXPECT_CONTAINS(refusal(with(1200, 10001, 1)), "height = 10001");
  EXPECT_CONTAINS(refusal(with(1200, 750, 0.1)), "font_scale = 0.1");
  EXPECT_CONTAINS(refusal(with(1200, 750, 5.1)), "font_scale = 5.1");
  EXPECT_CONTAINS(refusal(with(1200, 750, std::numeric_limits<double>::quiet_NaN())), "font_scale = nan");
  plot(with(200, 150, 0.2));
  plot(with(200, 150, 5));
}

TEST_F(PlotTest, RefusesFitsWithoutPoints) {
  options_.fit = "power";
  PlotOptions bars = options_, heat = options_;
  bars.bars = true;
  heat.heat = "loss";
  EXPECT_CONTAINS(refusal(bars), "fit = power");
  EXPECT_CONTAINS(refusal(heat), "fit = power");
}

TEST_F(PlotTest, ReturnsALineForEachFit) {
  options_.fit = "power";
  const std::vector<std::string> fits = plot(options_);
  ASSERT_EQ(fits.size(), 2u);
  EXPECT_EQ(fits[0].rfind("KDA: 2 x^1.0000 ± 0.0000", 0), 0u) << fits[0];
  EXPECT_EQ(fits[1].rfind("GDN: 1 x^", 0), 0u) << fits[1];
}

TEST_F(PlotTest, DrawsHeatMaps) {
  options_.heat = "loss";
  options_.y = "mixer";
  EXPECT_TRUE(plot(options_).empty());
  EXPECT_CONTAINS(read_file(options_.out), ">kda<");
}

TEST_F(PlotTest, LeavesTheOldPictureWhereTheDataIsWrong) {
  write_file(options_.out, "old");
  write_file(options_.files[0], "n,loss\n1,2\n2,fast\n");
  EXPECT_CONTAINS(failure_of([&] { plot(options_); }), "row 2: loss = 'fast'");
  EXPECT_EQ(read_file(options_.out), "old");
}

}  // namespace
}  // namespace klab
