// SPDX-License-Identifier: Apache-2.0
// The user's messages of a conversation.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "experiments/command/standard_input.h"

namespace klab {

/// A line of input; `inside`: the message has begun in a line before. None at the end.
using MessageLines = std::function<std::optional<std::string>(bool inside)>;

/// The next message: a line, or the lines between two lines of """ (or a first one and the end of input). Blank lines
/// between messages are skipped. None at the end of input, or at the line /quit.
std::optional<std::string> next_message(const MessageLines& read_line);

/// Reads messages from standard input. In a terminal a paste is a part of its line, line ends included, if the terminal
/// marks pastes.
class MessageReader {
 public:
  MessageReader();
  ~MessageReader();
  MessageReader(const MessageReader&) = delete;
  MessageReader& operator=(const MessageReader&) = delete;

  /// As next_message(). Throws Interrupted.
  std::optional<std::string> next();

 private:
  std::optional<std::string> terminal_line(bool inside);
  void show(std::string_view text) const;

  StandardInput input_;
  bool terminal_;
  int screen_;  // where a terminal shows the line
};

}  // namespace klab
