// SPDX-License-Identifier: Apache-2.0
#include "core/base/text.h"

#include <gtest/gtest.h>

#include <limits>

namespace klab {
namespace {

const std::vector<std::string> kKeys = {"train.lr", "train.steps", "task.name", "model.width"};

TEST(Nearest, FindsASlip) {
  EXPECT_EQ(nearest("train.step", kKeys), "train.steps");
  EXPECT_EQ(nearest("modle.width", kKeys), "model.width");
}

TEST(Nearest, KnowsAKeyByItsLastPart) {
  EXPECT_EQ(nearest("lr", kKeys), "train.lr");
  EXPECT_EQ(nearest("steps", kKeys), "train.steps");
}

TEST(Nearest, AnExactNameWinsOverACloseOne) { EXPECT_EQ(nearest("gdn", {"gdn2", "gdn", "gla"}), "gdn"); }

TEST(Nearest, NothingIsMeantByAWordThatIsFarFromAll) {
  EXPECT_EQ(nearest("completely.different.words", kKeys), "");
  EXPECT_EQ(nearest("kda", {}), "");
}

TEST(Nearest, AShortNameWithoutACommonLetterIsNotMeant) {
  EXPECT_EQ(nearest("x", {"kda", "gdn"}), "");
  EXPECT_EQ(nearest("foo", {"kda", "gla"}), "");
  EXPECT_EQ(nearest("fx", {"kda", "fox"}), "fox");
}

TEST(DidYouMean, IsAClauseOrNothing) {
  EXPECT_EQ(did_you_mean("train.rl", kKeys), "; did you mean 'train.lr'?");
  EXPECT_EQ(did_you_mean("", {"kda"}), "");
}

TEST(Split, TrimsAndKeepsEmptyParts) {
  EXPECT_EQ(split("a, b ,c", ','), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(split("a,,c,", ','), (std::vector<std::string>{"a", "", "c", ""}));
  EXPECT_EQ(split(",", ','), (std::vector<std::string>{"", ""}));
  EXPECT_EQ(split("alone", ','), (std::vector<std::string>{"alone"}));
}

TEST(Split, OfBlanksIsEmpty) {
  EXPECT_TRUE(split("", ',').empty());
  EXPECT_TRUE(split(" \t ", ',').empty());
}

TEST(Join, IsTheInverseOfSplit) {
  EXPECT_EQ(join({"a", "b"}), "a, b");
  EXPECT_EQ(join({"a", "", "c"}, ","), "a,,c");
  EXPECT_EQ(join({}), "");
}

TEST(Printable, EscapesControlCharacters) {
  EXPECT_EQ(printable("\x1b[31mred\x07\r\x7f"), "\\x1b[31mred\\x07\\x0d\\x7f");
  EXPECT_EQ(printable(std::string("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(printable("\u009b2J\u0085"), "\\u009b2J\\u0085");
}

TEST(Printable, KeepsTextLineEndsAndTabs) {
  const std::string text = "a line\n\tна другой 東京 \u00a0 C:\\x1b";
  EXPECT_EQ(printable(text), text);
  EXPECT_EQ(printable(""), "");
}

TEST(Printable, EscapesBytesThatAreNotUtf8) {
  EXPECT_EQ(printable("a\x9b\xff"), "a\\x9b\\xff");
  EXPECT_EQ(printable("\xe2\x82"), "\\xe2\\x82");
}

TEST(ClockTime, RoundsToSeconds) {
  EXPECT_EQ(clock_time(0), "0:00");
  EXPECT_EQ(clock_time(41.6), "0:42");
  EXPECT_EQ(clock_time(59.5), "1:00");
  EXPECT_EQ(clock_time(12 * 60 + 5), "12:05");
  EXPECT_EQ(clock_time(3599.7), "1:00:00");
  EXPECT_EQ(clock_time(3 * 3600 + 4 * 60 + 5), "3:04:05");
  EXPECT_EQ(clock_time(100 * 3600), "100:00:00");
}

TEST(ClockTime, HasAnAnswerForAnyNumber) {
  EXPECT_EQ(clock_time(-3), "0:00");
  EXPECT_EQ(clock_time(std::numeric_limits<double>::quiet_NaN()), "?");
  EXPECT_EQ(clock_time(std::numeric_limits<double>::infinity()), "?");
  EXPECT_EQ(clock_time(1e300), "?");
}

TEST(ShortCount, KeepsThreeDigits) {
  EXPECT_EQ(short_count(0), "0");
  EXPECT_EQ(short_count(950), "950");
  EXPECT_EQ(short_count(12345), "12.3k");
  EXPECT_EQ(short_count(4560000), "4.56M");
  EXPECT_EQ(short_count(48e9), "48G");
  EXPECT_EQ(short_count(-12345), "-12.3k");
}

TEST(ShortCount, CarriesIntoTheNextUnit) {
  EXPECT_EQ(short_count(999.4), "999.4");
  EXPECT_EQ(short_count(999.7), "1k");
  EXPECT_EQ(short_count(999999), "1M");
  EXPECT_EQ(short_count(999.97e6), "1G");
  EXPECT_EQ(short_count(1.25e13), "12.5T");
  EXPECT_EQ(short_count(2e18), "2000P");
}

TEST(MarkdownCode, EndsWhereTheTextDoes) {
  EXPECT_EQ(markdown_code("./klab train --out 'a b'"), "`./klab train --out 'a b'`");
  EXPECT_EQ(markdown_code("'a`b'"), "``'a`b'``");
  EXPECT_EQ(markdown_code("a``b`c"), "```a``b`c```");
  EXPECT_EQ(markdown_code("`a"), "`` `a ``");
}

}  // namespace
}  // namespace klab
