// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/html.h"

#include <fmt/format.h>

#include "core/base/file.h"

namespace klab {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light; }
body { margin: 0; background: #ffffff; color: #1a1a1a; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 75rem; margin: 0 auto; padding: 0.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.3rem; margin-top: 2.5rem; border-bottom: 2px solid #0072b2; padding-bottom: 0.2rem; }
p, li { max-width: 48rem; }
code { font-family: ui-monospace, monospace; font-size: 0.9em; overflow-wrap: anywhere; }
figure { margin: 1rem 0; max-width: 48rem; }
figure img { max-width: 100%; height: auto; border: 1px solid #dddddd; }
figure.wide { max-width: none; overflow-x: auto; grid-column: 1 / -1; }
figure.wide img { min-width: 44rem; }
figcaption { color: #444444; font-size: 0.9rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1rem; }
.figures figure { margin: 0; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid #dddddd; text-align: left; vertical-align: top; }
td { overflow-wrap: break-word; }
th { background: #f2f2f2; }
.how { background: #eef5fa; border-left: 4px solid #0072b2; padding: 0.1rem 1rem; margin: 1rem 0; }
)";

}  // namespace

std::string html_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](size_t j) { return j < bytes.size() ? static_cast<unsigned char>(bytes[j]) : 0U; };
    const unsigned group = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
    for (size_t j = 0; j < 4; ++j) out += i + j <= bytes.size() ? kLetters[group >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

std::string html_table(const std::vector<std::string>& headers, const std::vector<std::vector<std::string>>& rows) {
  std::string out = "<div class=\"scroll\"><table>\n<thead><tr>";
  for (const std::string& header : headers) out += fmt::format("<th scope=\"col\">{}</th>", html_text(header));
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : rows) {
    out += "<tr>";
    for (const std::string& cell : row) out += fmt::format("<td>{}</td>", html_text(cell));
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string html_figure(const std::string& png, const std::string& alt, const std::string& caption, bool wide) {
  return fmt::format(
      "<figure{}><img src=\"data:image/png;base64,{}\" alt=\"{}\">\n<figcaption>{}</figcaption></figure>\n",
      wide ? " class=\"wide\"" : "", base64(read_file(png)), html_text(alt), html_text(caption));
}

std::string html_how_to_read(const std::vector<std::string>& paragraphs) {
  std::string out = "<div class=\"how\">\n";
  for (const std::string& paragraph : paragraphs) out += "<p>" + paragraph + "</p>\n";
  return out + "</div>\n";
}

std::vector<std::vector<std::string>> html_rows_of_lines(const std::vector<std::string>& lines) {
  std::vector<std::vector<std::string>> rows;
  for (const std::string& line : lines) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) {
      rows.push_back({"made by", line});
    } else {
      rows.push_back({line.substr(0, colon), line.substr(colon + 2)});
    }
  }
  return rows;
}

std::string html_page(const std::string& title, const std::string& body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n"
      "<style>{}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n</html>\n",
      html_text(title), kStyle, body);
}

}  // namespace klab
