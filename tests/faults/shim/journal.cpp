// SPDX-License-Identifier: Apache-2.0
#include "faults/shim/journal.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace klab::faults {
namespace {

int journal() {
  static const int descriptor = [] {
    const char* path = std::getenv("KLAB_FAULT_JOURNAL");
    if (path == nullptr) return -1;
    constexpr int kAppend = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
    return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, kAppend, 0644));
  }();
  return descriptor;
}

}  // namespace

std::unique_lock<std::mutex> journal_turn() {
  static std::mutex& turn = *new std::mutex;
  return std::unique_lock(turn);
}

bool has_journal() { return journal() >= 0; }

void record(const char* operation, long offset, std::string_view path, std::string_view data) {
  if (!has_journal()) return;
  const int before = errno;
  std::string text = operation;
  for (const auto number : {static_cast<size_t>(offset), path.size(), data.size()}) {
    text += " ";
    text += std::to_string(number);
  }
  text += "\n";
  text += path;
  text += data;
  for (std::string_view left = text; !left.empty();) {
    const long written = ::syscall(SYS_write, journal(), left.data(), left.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) ::_exit(99);  // a journal with a hole would prove nothing
    left.remove_prefix(static_cast<size_t>(written));
  }
  errno = before;
}

}  // namespace klab::faults
