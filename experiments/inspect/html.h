// Pieces of HTML pages that need nothing beside them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace klab {

/// Text for between tags and for attributes in double quotes.
std::string html_text(std::string_view text);

/// Any bytes as base64 with padding.
std::string base64(std::string_view bytes);

/// A table with a header row; the cells are texts, escaped here. It scrolls by itself where the screen is narrow.
std::string html_table(const std::vector<std::string>& headers, const std::vector<std::vector<std::string>>& rows);

/// A PNG file within the page, over its caption (text). A `wide` one has a row for itself, and scrolls rather than
/// shrink to what nobody can read.
std::string html_figure(const std::string& png, const std::string& alt, const std::string& caption, bool wide = false);

/// The whole page around `body`.
std::string html_page(const std::string& title, const std::string& body);

}  // namespace klab
