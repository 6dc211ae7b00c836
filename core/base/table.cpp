// SPDX-License-Identifier: Apache-2.0
#include "core/base/table.h"

#include <fmt/format.h>

#include <algorithm>

namespace klab {
namespace {

// The width of a text on a terminal in columns: UTF-8 continuation bytes take none.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

bool numeric(const std::string& text) { return !text.empty() && text.find_first_of("0123456789") <= 1; }

}  // namespace

std::string format_table(const std::vector<std::string>& headers, const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (size_t c = 0; c < headers.size(); ++c) {
    widths.push_back(width_of(headers[c]));
    for (const auto& row : rows) widths[c] = std::max(widths[c], width_of(row.at(c)));
  }
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells, bool header) {
    for (size_t c = 0; c < cells.size(); ++c) {
      const std::string padding(widths[c] - width_of(cells[c]), ' ');
      const bool right = numeric(header && !rows.empty() ? rows[0][c] : cells[c]);
      out += (c > 0 ? "  " : "") + (right ? padding + cells[c] : cells[c] + padding);
    }
    out.erase(out.find_last_not_of(' ') + 1);
    out += "\n";
  };
  line(headers, true);
  for (const auto& row : rows) line(row, false);
  return out;
}

std::string bare_list(const std::string& text) {
  if (text.size() < 2 || text.front() != '[' || text.back() != ']') return text;
  return text.substr(1, text.size() - 2);
}

}  // namespace klab
