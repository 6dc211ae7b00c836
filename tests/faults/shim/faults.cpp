// SPDX-License-Identifier: Apache-2.0
#include "faults/shim/faults.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sstream>
#include <utility>
#include <vector>

namespace klab::faults {
namespace {

constexpr std::pair<const char*, int> kErrors[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO},       {"EINTR", EINTR},
                                                   {"EMFILE", EMFILE}, {"ENOMEM", ENOMEM}, {"EAGAIN", EAGAIN},
                                                   {"EROFS", EROFS},   {"EACCES", EACCES}};
constexpr std::pair<const char*, int> kSignals[] = {
    {"SIGTERM", SIGTERM}, {"SIGINT", SIGINT}, {"SIGKILL", SIGKILL}, {"SIGSTOP", SIGSTOP}};

struct Fault {
  Kind kind = kOpen;
  uint64_t first = 0;
  bool lasts = false;
  int error = 0, signal = 0;
  long sleep_ms = 0;
  bool cut = false;
};

[[noreturn]] void refuse(const char* variable, const std::string& text) {
  std::fprintf(stderr, "%s: '%s' is malformed: see tests/faults/shim/faults.h\n", variable, text.c_str());
  ::_exit(99);
}

std::string variable(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? "" : text;
}

template <size_t n>
int named(const std::pair<const char*, int> (&all)[n], const std::string& name) {
  for (const auto& [word, number] : all) {
    if (name == word) return number;
  }
  return 0;
}

Fault fault_of(const std::string& text) {
  std::istringstream words(text);
  std::string kind, number, what;
  std::getline(words, kind, ':');
  std::getline(words, number, ':');
  std::getline(words, what);
  Fault fault;
  size_t i = 0;
  while (i < kKinds && kind != kKindNames[i]) ++i;
  fault.kind = static_cast<Kind>(i);
  fault.first = std::strtoull(number.c_str(), nullptr, 10);
  fault.lasts = !number.empty() && number.back() == '+';
  fault.error = named(kErrors, what);
  fault.signal = named(kSignals, what);
  fault.cut = what == "SHORT";
  if (what.rfind("SLEEP", 0) == 0) fault.sleep_ms = std::strtol(what.c_str() + 5, nullptr, 10);
  if (i == kKinds || fault.first == 0 || !(fault.error || fault.signal || fault.cut || fault.sleep_ms > 0)) {
    refuse("KLAB_FAULT", text);
  }
  return fault;
}

using Counts = std::array<std::atomic<uint64_t>, kKinds>;

// The counts of all processes, or where there is no file, of this one. Not through open(), which this library replaces.
Counts* shared_counts(const std::string& path) {
  if (path.empty()) return new Counts{};
  const auto descriptor = static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path.c_str(), O_RDWR | O_CREAT, 0644));
  if (descriptor < 0 || ::syscall(SYS_ftruncate, descriptor, sizeof(Counts)) != 0) refuse("KLAB_FAULT_COUNTS", path);
  const long at = ::syscall(SYS_mmap, nullptr, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  ::syscall(SYS_close, descriptor);
  if (at == -1) refuse("KLAB_FAULT_COUNTS", path);
  return reinterpret_cast<Counts*>(at);
}

struct Settings {
  std::string under = variable("KLAB_FAULT_UNDER");
  std::vector<Fault> faults;
  Counts* counts = shared_counts(variable("KLAB_FAULT_COUNTS"));
  long clock = std::strtol(variable("KLAB_FAULT_CLOCK").c_str(), nullptr, 10);

  Settings() {
    std::istringstream all(variable("KLAB_FAULT"));
    for (std::string one; std::getline(all, one, ',');) faults.push_back(fault_of(one));
  }
};

// Never destroyed: files are closed until the very end of a process.
const Settings& settings() {
  static const Settings& all = *new Settings;
  return all;
}

bool below(const std::string& path, const std::string& folder) {
  return !folder.empty() && path.compare(0, folder.size(), folder) == 0 &&
         (path.size() == folder.size() || path[folder.size()] == '/');
}

std::string link_target(const std::string& link) {
  std::array<char, PATH_MAX> target{};
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  return length < 0 ? "" : std::string(target.data(), static_cast<size_t>(length));
}

}  // namespace

std::string watched_path(int descriptor) {
  const int before = errno;
  std::string path = link_target("/proc/self/fd/" + std::to_string(descriptor));
  errno = before;
  return below(path, settings().under) ? path : "";
}

std::string watched_path(const char* path, int descriptor) {
  const int before = errno;
  std::string whole = path;
  if (path[0] != '/') {
    const bool here = descriptor == AT_FDCWD;
    whole = link_target(here ? "/proc/self/cwd" : "/proc/self/fd/" + std::to_string(descriptor)) + "/" + path;
  }
  errno = before;
  return below(whole, settings().under) ? whole : "";
}

Verdict count(Kind kind) {
  Verdict verdict;
  const int before = errno;
  const uint64_t number = ++(*settings().counts)[kind];
  for (const Fault& fault : settings().faults) {
    if (fault.kind != kind || number < fault.first || (number > fault.first && !fault.lasts)) continue;
    if (fault.sleep_ms > 0) {
      const timespec pause{fault.sleep_ms / 1000, fault.sleep_ms % 1000 * 1'000'000};
      ::nanosleep(&pause, nullptr);
    }
    if (fault.signal != 0) ::kill(::getpid(), fault.signal);
    if (fault.error != 0) verdict.error = fault.error;
    verdict.cut = verdict.cut || fault.cut;
  }
  errno = verdict.error != 0 ? verdict.error : before;
  return verdict;
}

Verdict count_path(Kind kind, const char* path, int descriptor) {
  if (watched_path(path, descriptor).empty()) return {.counts = false};
  return count(kind);
}

Verdict count_open_file(Kind kind, int descriptor) {
  if (watched_path(descriptor).empty()) return {.counts = false};
  return count(kind);
}

long clock_jump() {
  static std::atomic<uint64_t> looks{0};
  return settings().clock != 0 && looks++ % 2 == 1 ? settings().clock : 0;
}

}  // namespace klab::faults
