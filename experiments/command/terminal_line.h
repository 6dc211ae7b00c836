// SPDX-License-Identifier: Apache-2.0
// A line that is typed or pasted into a terminal.
#pragma once

#include <string>
#include <string_view>

namespace klab {

/// Switch the marks of pastes on and off, in terminals that know them ("bracketed paste").
inline constexpr std::string_view kMarkPastes = "\x1b[?2004h", kMarkNoPastes = "\x1b[?2004l";

/// Edits a line byte by byte, for a terminal that neither edits nor echoes. Backspace, Ctrl-W (the last word) and
/// Ctrl-U (all) erase; what lies between the marks of a paste is text, line ends included; other keys do nothing.
class TerminalLine {
 public:
  /// kEnd: Ctrl-D on an empty line.
  enum class Step { kMore, kEntered, kEnd };

  /// Appends to `echo` what the terminal should show.
  Step push(char byte, std::string& echo);

  /// The text so far; the line is empty after that.
  std::string take();

 private:
  void push_pasted(char byte, std::string& echo);
  void push_key(char byte);
  bool erase(std::string& echo);
  void erase_word(std::string& echo);

  std::string text_, key_;  // key_: the beginning of an escape sequence
  bool pasting_ = false;
  size_t pasted_from_ = 0;
};

}  // namespace klab
