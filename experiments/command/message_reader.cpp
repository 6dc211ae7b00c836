// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/message_reader.h"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>

#include "core/base/text.h"
#include "experiments/command/terminal_line.h"

namespace klab {
namespace {

constexpr std::string_view kBlockMark = "\"\"\"", kQuit = "/quit";

// Standard error, or the terminal of standard input if standard error is not shown.
int open_screen() {
  if (::isatty(STDERR_FILENO) == 1) return STDERR_FILENO;
  const char* name = ::ttyname(STDIN_FILENO);
  const int opened = name == nullptr ? -1 : ::open(name, O_WRONLY | O_NOCTTY | O_CLOEXEC);
  return opened < 0 ? STDERR_FILENO : opened;
}

// The terminal gives bytes as they are typed and does not echo them; Ctrl-C still interrupts. Its own editing would cut
// lines after 4095 bytes.
class UneditedTerminal {
 public:
  UneditedTerminal() : known_(::tcgetattr(STDIN_FILENO, &before_) == 0) {
    termios now = before_;
    now.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | IEXTEN);
    now.c_cc[VMIN] = 1;
    now.c_cc[VTIME] = 0;
    if (known_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &now);
  }
  ~UneditedTerminal() {
    if (known_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  }
  UneditedTerminal(const UneditedTerminal&) = delete;
  UneditedTerminal& operator=(const UneditedTerminal&) = delete;

 private:
  termios before_{};
  bool known_;
};

// The lines up to the closing mark or the end of input.
std::string read_block(const MessageLines& read_line) {
  std::string block;
  bool first = true;
  while (const std::optional<std::string> line = read_line(/*inside=*/true)) {
    if (trimmed(*line) == kBlockMark) break;
    if (!first) block += '\n';
    block += *line;
    first = false;
  }
  return block;
}

}  // namespace

std::optional<std::string> next_message(const MessageLines& read_line) {
  while (std::optional<std::string> line = read_line(/*inside=*/false)) {
    const std::string_view words = trimmed(*line);
    if (words == kQuit) return std::nullopt;
    if (words == kBlockMark) line = read_block(read_line);
    if (!trimmed(*line).empty()) return line;
  }
  return std::nullopt;
}

MessageReader::MessageReader()
    : terminal_(::isatty(STDIN_FILENO) == 1), screen_(terminal_ ? open_screen() : STDERR_FILENO) {
  if (!terminal_) return;
  show(
      "Each line is a message, and so is a paste of several lines, or lines between two lines of \"\"\". Ctrl-D or "
      "/quit ends the conversation.\n");
  show(kMarkPastes);
}

MessageReader::~MessageReader() {
  if (terminal_) show(kMarkNoPastes);
  if (screen_ != STDERR_FILENO) ::close(screen_);
}

std::optional<std::string> MessageReader::next() {
  return next_message([this](bool inside) { return terminal_ ? terminal_line(inside) : input_.line(); });
}

std::optional<std::string> MessageReader::terminal_line(bool inside) {
  const UneditedTerminal unedited;
  show(inside ? ". " : "> ");
  TerminalLine line;
  while (const std::optional<char> byte = input_.byte()) {
    std::string echo;
    const TerminalLine::Step step = line.push(*byte, echo);
    show(echo);
    if (step == TerminalLine::Step::kEnd) break;
    if (step == TerminalLine::Step::kMore) continue;
    std::string text = line.take();
    while (text.ends_with('\n')) text.pop_back();  // of a paste
    return text;
  }
  show("\n");
  std::string text = line.take();
  if (text.empty()) return std::nullopt;
  return text;
}

void MessageReader::show(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t written = ::write(screen_, text.data(), text.size());
    if (written < 0 && errno != EINTR) return;
    if (written > 0) text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace klab
