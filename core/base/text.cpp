// SPDX-License-Identifier: Apache-2.0
#include "core/base/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "core/base/utf8.h"

namespace klab {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Levenshtein distance, ignoring case.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (lower(a[i - 1]) == lower(b[j - 1]) ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

// Names that differ in two thirds of their letters or more are not suggested for each other.
bool alike(std::string_view a, std::string_view b, size_t distance) {
  return 3 * distance < 2 * std::max(a.size(), b.size()) || distance == 0;
}

}  // namespace

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::string nearest(std::string_view name, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(3, name.size() / 2) + 1;
  const auto consider = [&](std::string_view part, size_t penalty, const std::string& candidate) {
    const size_t distance = edit_distance(name, part);
    if (distance + penalty >= best_distance || !alike(name, part, distance)) return;
    best_distance = distance + penalty;
    best = candidate;
  };
  for (const std::string& candidate : candidates) {
    consider(candidate, 0, candidate);
    // The last part alone ("lr" for "train.lr") matches with a penalty of 1.
    if (const auto dot = candidate.rfind('.'); dot != std::string::npos) {
      consider(std::string_view(candidate).substr(dot + 1), 1, candidate);
    }
  }
  return best;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates) {
  const std::string close = nearest(name, candidates);
  return close.empty() ? "" : fmt::format("; did you mean '{}'?", close);
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  if (trimmed(text).empty()) return parts;
  for (size_t start = 0;;) {
    const size_t end = text.find(separator, start);
    parts.emplace_back(trimmed(text.substr(start, end == std::string_view::npos ? end : end - start)));
    if (end == std::string_view::npos) return parts;
    start = end + 1;
  }
}

std::string markdown_code(std::string_view line) {
  std::string fence = "`";
  while (line.find(fence) != std::string_view::npos) fence += '`';
  // Blanks keep a backtick at the end apart from the fence; Markdown removes them.
  const char* blank = line.starts_with('`') || line.ends_with('`') ? " " : "";
  return fmt::format("{}{}{}{}{}", fence, blank, line, blank, fence);
}

std::string printable(std::string_view text) {
  std::string out;
  for (size_t at = 0, wrong = 0; at < text.size();) {
    const size_t length = character_length(text, at, wrong);
    const std::string_view part = text.substr(at, length > 0 ? length : wrong);
    const char32_t c = length > 0 ? code_point(part) : 0;
    const bool control = c < 0x20 || (c >= 0x7F && c < 0xA0);
    if (!control || part == "\n" || part == "\t") {
      out += part;
    } else if (length > 1) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      for (const char byte : part) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
    }
    at += part.size();
  }
  return out;
}

std::string clock_time(double seconds) {
  if (!(std::abs(seconds) < 1e12)) return "?";  // NaN, or too large for an integer
  const auto total = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  const int64_t hours = total / 3600, minutes = total / 60 % 60, rest = total % 60;
  return hours > 0 ? fmt::format("{}:{:02}:{:02}", hours, minutes, rest) : fmt::format("{}:{:02}", minutes, rest);
}

std::string short_count(double count) {
  static constexpr std::array kUnits = {"", "k", "M", "G", "T", "P"};
  size_t unit = 0;
  // 999.5 would be rounded to 1000.
  for (; std::abs(count) >= 999.5 && unit + 1 < kUnits.size(); ++unit) count /= 1000;
  if (std::abs(count) >= 999.5) return fmt::format("{:.0f}{}", count, kUnits[unit]);
  const int digits = unit == 1 || unit == 2 ? 3 : 4;
  return fmt::format("{:.{}g}{}", count, digits, kUnits[unit]);
}

}  // namespace klab
