// SPDX-License-Identifier: Apache-2.0
#include "core/base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "core/base/message.h"
#include "core/base/text.h"

namespace klab {
namespace {

constexpr double kTerminalPeriod = 0.1, kPlainPeriod = 5.0;  // seconds between updates
constexpr int kBarCells = 24;

size_t terminal_width() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 100;
}

std::string bar(double share) {
  // Eighths of a cell, so that small steps are visible.
  static const char* const kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(share * kBarCells * 8);
  std::string cells;
  for (int i = 0; i < eighths / 8; ++i) cells += "█";
  cells += kEighths[eighths % 8];
  const int used = eighths / 8 + (eighths % 8 != 0 ? 1 : 0);
  return cells + std::string(static_cast<size_t>(std::max(0, kBarCells - used)), ' ');
}

// Whether a byte begins a UTF-8 character; each character is assumed to take one column.
bool begins_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

size_t columns_of(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

// The first `columns` characters of the text.
std::string cut(const std::string& text, size_t columns) {
  size_t seen = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (begins_character(text[i]) && seen++ == columns) return text.substr(0, i);
  }
  return text;
}

}  // namespace

Progress::Progress(std::string label, int64_t total, int64_t done, bool quiet)
    : label_(std::move(label)),
      total_(std::max<int64_t>(total, 1)),
      start_(done),
      done_(done),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) != 0),
      begin_(Clock::now()),
      last_(begin_) {}

Progress::~Progress() {
  if (drawn_) std::fputc('\n', stderr);
}

std::string Progress::line(const std::string& status) const {
  const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
  const double rate = static_cast<double>(done_ - start_) / std::max(seconds, 1e-9);
  const std::string left = done_ > start_ ? clock_time(static_cast<double>(total_ - done_) / rate) : "?";
  const double share = std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0);
  const std::string counts = fmt::format("{}/{}", done_, total_);
  if (!terminal_) return printable(fmt::format("{} {} {}  left {}", label_, counts, status, left));
  return printable(fmt::format("{} |{}| {} {}  left {}", label_, bar(share), counts, status, left));
}

void Progress::erase() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
  drawn_ = false;
}

void Progress::update(int64_t done, const std::string& status) {
  done_ = done;
  if (quiet_) return;
  const auto now = Clock::now();
  const double since = std::chrono::duration<double>(now - last_).count();
  if (done < total_ && since < (terminal_ ? kTerminalPeriod : kPlainPeriod)) return;
  last_ = now;
  if (!terminal_) {
    fmt::print(stderr, "{}\n", line(status));
    return;
  }
  std::string text = line(status);
  // A line that wraps could not be erased: drop the bar first, then truncate.
  const size_t width = terminal_width();
  if (columns_of(text) >= width) text = printable(fmt::format("{} {}/{} {}", label_, done_, total_, status));
  erase();
  std::fputs(cut(text, width - 1).c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::note(const std::string& text) {
  if (quiet_) return;
  erase();
  print_message(text);
}

}  // namespace klab
