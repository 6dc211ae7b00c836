// SPDX-License-Identifier: Apache-2.0
#include "core/base/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/system_call.h"
#include "core/base/text.h"

namespace klab {

std::optional<Lock> Lock::take(const std::string& path) {
  const int descriptor = uninterrupted([&] { return ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644); });
  if (descriptor < 0) fail("cannot open '{}': {}", path, std::strerror(errno));
  if (uninterrupted([&] { return ::flock(descriptor, LOCK_EX | LOCK_NB); }) != 0) {
    const int reason = errno;
    ::close(descriptor);
    if (reason == EWOULDBLOCK) return {};
    fail("cannot lock '{}': {}", path, std::strerror(reason));
  }
  // The name of the holder is for messages only: the lock holds without it.
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  if (::ftruncate(descriptor, 0) == 0) ::dprintf(descriptor, "process %d on %s\n", ::getpid(), host.data());
  return Lock(descriptor);
}

std::string Lock::holder(const std::string& path) {
  const std::string name(trimmed(read_file(path)));
  return name.empty() ? "another process" : name;
}

Lock::~Lock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace klab
