// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/pictures.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <limits>

#include "core/base/file.h"
#include "core/base/support.h"
#include "experiments/inspect/report.h"
#include "experiments/inspect/support.h"

namespace klab {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

void expect_png(const std::string& path) { EXPECT_EQ(read_file(path).substr(1, 3), "PNG") << path; }

// A size of an image, from the header of its PNG file.
int64_t big_endian(const std::string& png, size_t at) {
  int64_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(png.at(at + i));
  return value;
}
int64_t png_height(const std::string& path) { return big_endian(read_file(path), 20); }

TEST(DrawHalfLives, DrawsAMapOfChannelsOrABarPerHead) {
  const Folder folder;
  MixerView view = sample_inspection().mixers[0];
  const DrawnPicture map = draw_half_lives(view, folder.path());
  EXPECT_EQ(map.file, "half_life_layer0_kda.png");
  EXPECT_CONTAINS(map.title, "layer 0: kda");
  EXPECT_CONTAINS(map.alt, "2 heads with 2 channels");
  expect_png(folder / map.file);
  const std::string before = read_file(folder / map.file);

  view.decays.half_life = torch::tensor({0.0, kInfinite, 1e9, 2.0}, torch::kDouble).view({4, 1});
  const DrawnPicture bars = draw_half_lives(view, folder.path());
  EXPECT_EQ(bars.file, map.file);
  EXPECT_CONTAINS(bars.alt, "4 heads with 1 channels");
  EXPECT_NE(read_file(folder / map.file), before);
  const int64_t height = png_height(folder / bars.file);
  view.decays.half_life = view.decays.half_life.repeat({2, 1});
  draw_half_lives(view, folder.path());
  EXPECT_EQ(png_height(folder / bars.file), height) << "a map would have more rows";
}

TEST(DrawHalfLives, DrawsNothingWhereNothingFades) {
  const Folder folder;
  MixerView view = sample_inspection().mixers[0];
  view.decays.half_life.fill_(kInfinite);
  EXPECT_EQ(draw_half_lives(view, folder.path()).file, "");
  EXPECT_EQ(folder.entries(), 0u);
  view.decays.half_life.fill_(0);  // a head that only resets is worth a picture
  expect_png(folder / draw_half_lives(view, folder.path()).file);
}

TEST(DrawWeights, TakesAsManyPagesAsTheHeadsNeed) {
  const Folder folder;
  const Inspection found = sample_inspection();
  const std::vector<DrawnPicture> one = draw_weights(found.mixers[1], found, folder.path());
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0].file, "weights_layer1_1_mla.png");
  EXPECT_CONTAINS(one[0].title, "softmax");
  EXPECT_TRUE(one[0].wide);

  MixerView many = found.mixers[0];
  many.weights = many.weights.narrow(0, 0, 1).repeat({9, 1, 1});
  const std::vector<DrawnPicture> pages = draw_weights(many, found, folder.path());
  ASSERT_EQ(pages.size(), 2u);
  EXPECT_EQ(pages[0].file, "weights_layer0_kda.png");
  EXPECT_EQ(pages[1].file, "weights_layer0_kda_2.png");
  EXPECT_CONTAINS(pages[0].title, "implicit attention");
  EXPECT_CONTAINS(pages[0].alt, "heads 0 to 7");
  EXPECT_CONTAINS(pages[1].alt, "heads 8 to 8");
  EXPECT_FALSE(pages[1].wide) << "one square needs half of a page";
  EXPECT_GT(png_height(folder / pages[0].file), 2 * png_height(folder / pages[1].file));
}

TEST(DrawWeights, TokensMayHaveAnyNames) {
  const Folder folder;
  Inspection found = sample_inspection();
  found.drawn.names = {"\"q\" `x`", "50 %d\\", "a_{b}"};
  for (const DrawnPicture& page : draw_weights(found.mixers[0], found, folder.path())) expect_png(folder / page.file);
}

TEST(DrawRanks, DrawsTheFirstHeads) {
  const Folder folder;
  const Inspection found = sample_inspection();
  const DrawnPicture few = draw_ranks(found.mixers[0], found, folder.path());
  EXPECT_EQ(few.file, "rank_layer0_kda.png");
  EXPECT_CONTAINS(few.alt, "2 heads over 3 tokens");
  expect_png(folder / few.file);
  MixerView many = found.mixers[0];
  many.ranks = many.ranks.repeat({1, 10, 1});
  EXPECT_CONTAINS(draw_ranks(many, found, folder.path()).alt, "16 heads");
}

TEST(DrawAccuracy, DrawsNothingWithoutDifficulties) {
  const Folder folder;
  Evaluation accuracy = sample_inspection().accuracy;
  const DrawnPicture drawn = draw_accuracy(accuracy, folder.path());
  EXPECT_EQ(drawn.file, "accuracy.png");
  EXPECT_CONTAINS(drawn.alt, "2 slices of the difficulty distance");
  expect_png(folder / drawn.file);
  std::filesystem::remove(folder / drawn.file);
  accuracy.slices = {{-1, {1.0, 8, 8}}};
  EXPECT_EQ(draw_accuracy(accuracy, folder.path()).file, "");
  accuracy.slices.clear();
  EXPECT_EQ(draw_accuracy(accuracy, folder.path()).file, "");
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(InspectionReport, HoldsEveryPictureAndEscapesNames) {
  const Folder folder;
  Inspection found = sample_inspection();
  found.options.run = "runs/<b>";
  found.drawn.names[1] = "<sep>";
  const std::string page = inspection_report(found, {{"accuracy.csv", {}}}, {"command: klab <x>"}, folder.path());
  size_t figures = 0;
  for (size_t at = page.find("<figure"); at != std::string::npos; at = page.find("<figure", at + 1)) ++figures;
  EXPECT_EQ(figures, 5u);  // half-lives, ranks, weights of two mixers, accuracy
  EXPECT_EQ(folder.entries(), 5u);
  EXPECT_FALSE(contains(page, "<b>"));
  EXPECT_FALSE(contains(page, "<sep>"));
  EXPECT_FALSE(contains(page, "<x>"));
  EXPECT_CONTAINS(page, "a &lt;sep&gt; a");
  EXPECT_CONTAINS(page, "75.0 %");
  EXPECT_CONTAINS(page, "<code>accuracy.csv</code>");
}

}  // namespace
}  // namespace klab
