// SPDX-License-Identifier: Apache-2.0
// Text helpers for messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace klab {

/// The candidate with the smallest edit distance to `name`, or "" if none is close enough.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

/// "; did you mean 'x'?" for the nearest candidate, or "".
std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates);

/// "a, b, c".
std::string join(const std::vector<std::string>& parts, std::string_view separator = ", ");

/// The text without whitespace at both ends.
std::string_view trimmed(std::string_view text);

/// Splits at every separator; parts are trimmed. "" gives no parts.
std::vector<std::string> split(std::string_view text, char separator);

/// A line as code in Markdown: between more backticks than it has in a row.
std::string markdown_code(std::string_view line);

/// The text with control characters as escapes, "\x1b" or "\u009b", so that it cannot steer the terminal that shows it;
/// line ends and tabs stay. Bytes that are not UTF-8 are escaped too.
std::string printable(std::string_view text);

/// A readable duration: "0:42", "12:05", "3:04:05".
std::string clock_time(double seconds);

/// A readable count: "950", "12.3k", "4.56M", "1.5T".
std::string short_count(double count);

}  // namespace klab
