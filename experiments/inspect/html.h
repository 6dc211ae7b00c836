// SPDX-License-Identifier: Apache-2.0
// Building blocks of self-contained HTML pages.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace klab {

/// Escapes text for use between tags and in double-quoted attributes.
std::string html_text(std::string_view text);

/// Any bytes as base64 with padding.
std::string base64(std::string_view bytes);

/// A table with a header row. Escapes the cells. Scrolls horizontally on narrow screens.
std::string html_table(const std::vector<std::string>& headers, const std::vector<std::vector<std::string>>& rows);

/// A PNG file embedded in the page, with a caption (text). A `wide` figure takes a full row, and scrolls instead of
/// shrinking on narrow screens.
std::string html_figure(const std::string& png, const std::string& alt, const std::string& caption, bool wide = false);

/// A highlighted box of paragraphs of HTML: how to read what follows.
std::string html_how_to_read(const std::vector<std::string>& paragraphs);

/// Two cells for each line of provenance() or the like: "key: value"; without a key it is "made by".
std::vector<std::vector<std::string>> html_rows_of_lines(const std::vector<std::string>& lines);

/// The whole page around `body`.
std::string html_page(const std::string& title, const std::string& body);

}  // namespace klab
