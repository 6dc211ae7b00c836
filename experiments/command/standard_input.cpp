// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/standard_input.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "experiments/command/command.h"

namespace klab {
namespace {

constexpr int kInterruptPeriod = 200;  // milliseconds

}  // namespace

// Reads after an interrupt are restarted by the C library, waits are not.
bool StandardInput::fill() {
  for (;;) {
    if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted while reading standard input");
    pollfd wanted{STDIN_FILENO, POLLIN, 0};
    const int ready = ::poll(&wanted, 1, kInterruptPeriod);
    if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
    const ssize_t got = ready < 0 ? -1 : ::read(STDIN_FILENO, block_.data(), block_.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot read standard input: {}", std::strerror(errno));
    at_ = 0;
    size_ = static_cast<size_t>(got);
    return size_ > 0;
  }
}

std::optional<char> StandardInput::byte() {
  if (at_ == size_ && !fill()) return std::nullopt;
  return block_[at_++];
}

std::optional<std::string> StandardInput::line() {
  std::string text;
  for (;;) {
    const std::optional<char> next = byte();
    if (!next && text.empty()) return std::nullopt;
    if (!next || *next == '\n') break;
    text += *next;
  }
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

std::string StandardInput::rest() {
  std::string text;
  do {
    text.append(block_.data() + at_, size_ - at_);
    at_ = size_;
  } while (fill());
  return text;
}

std::string read_input(const std::string& path) {
  if (path == "-") return StandardInput().rest();
  require_input(path);
  return read_file(path);
}

std::string input_name(const std::string& path) { return path == "-" ? "standard input" : path; }

}  // namespace klab
