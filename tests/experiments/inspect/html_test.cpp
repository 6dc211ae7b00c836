// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/html.h"

#include <gtest/gtest.h>

#include "core/base/file.h"
#include "core/base/support.h"

namespace klab {
namespace {

TEST(HtmlText, EscapesMarkup) {
  EXPECT_EQ(html_text("a < b && c > \"d\" 'e'"), "a &lt; b &amp;&amp; c &gt; &quot;d&quot; &#39;e&#39;");
  EXPECT_EQ(html_text("&lt;"), "&amp;lt;");
  EXPECT_EQ(html_text("ä → ö_x"), "ä → ö_x");
}

// The examples of RFC 4648.
TEST(Base64, PadsToGroupsOfFour) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foob"), "Zm9vYg==");
  EXPECT_EQ(base64("fooba"), "Zm9vYmE=");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
}

TEST(Base64, TakesEveryByte) {
  EXPECT_EQ(base64(std::string("\x00\xFF\x80", 3)), "AP+A");
  EXPECT_EQ(base64("\xFB\xFF\xFE"), "+//+");
}

TEST(HtmlTable, EscapesHeadersAndCells) {
  const std::string table = html_table({"<h>", "b"}, {{"1 < 2", ""}, {"x", "&"}});
  EXPECT_CONTAINS(table, "<th scope=\"col\">&lt;h&gt;</th><th scope=\"col\">b</th>");
  EXPECT_CONTAINS(table, "<tr><td>1 &lt; 2</td><td></td></tr>\n<tr><td>x</td><td>&amp;</td></tr>");
}

TEST(HtmlFigure, EmbedsThePicture) {
  const Folder folder;
  write_file(folder / "a.png", "foobar");
  const std::string figure = html_figure(folder / "a.png", "\"alt\"", "a < b");
  EXPECT_CONTAINS(figure, "src=\"data:image/png;base64,Zm9vYmFy\"");
  EXPECT_CONTAINS(figure, "alt=\"&quot;alt&quot;\"");
  EXPECT_CONTAINS(figure, "<figcaption>a &lt; b</figcaption>");
  EXPECT_FALSE(contains(figure, "wide"));
  EXPECT_CONTAINS(html_figure(folder / "a.png", "", "", /*wide=*/true), "<figure class=\"wide\">");
  EXPECT_CONTAINS(failure_of([&] { html_figure(folder / "none.png", "", ""); }), "none.png");
}

TEST(HtmlHowToRead, HasAParagraphEach) {
  const std::string box = html_how_to_read({"one &minus; two", "three"});
  EXPECT_CONTAINS(box, "<p>one &minus; two</p>\n<p>three</p>");
}

TEST(HtmlRowsOfLines, SplitAtTheFirstColon) {
  EXPECT_EQ(html_rows_of_lines({"command: klab a: b", "klab 1.0"}),
            (std::vector<std::vector<std::string>>{{"command", "klab a: b"}, {"made by", "klab 1.0"}}));
}

TEST(HtmlPage, StandsAroundTheBody) {
  const std::string page = html_page("a < b", "<p>body</p>\n");
  EXPECT_EQ(page.rfind("<!DOCTYPE html>", 0), 0u);
  EXPECT_CONTAINS(page, "<meta charset=\"utf-8\">");
  EXPECT_CONTAINS(page, "<title>a &lt; b</title>");
  EXPECT_CONTAINS(page, "<p>body</p>\n");
  EXPECT_FALSE(contains(page, "http")) << "nothing is loaded from elsewhere";
}

}  // namespace
}  // namespace klab
