// SPDX-License-Identifier: Apache-2.0
// Replaces the C library's calls on open files. Streams (FILE) write inside of the C library: here a flush is the
// write.
#include <dlfcn.h>
#include <stdio_ext.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>

#include "faults/shim/faults.h"
#include "faults/shim/journal.h"

namespace {

using namespace klab::faults;

template <class Function>
Function* next_call(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

// A write at the file's position, or at `offset` unless that is negative. `call` writes so many bytes.
template <class Call>
ssize_t written(const Call& call, int descriptor, const std::string& bytes, off_t offset) {
  const std::string path = watched_path(descriptor);
  if (path.empty()) return call(bytes.size());
  const auto turn = journal_turn();
  const Verdict verdict = count(kWrite);
  if (verdict.error != 0) return -1;
  const ssize_t done = call(verdict.cut ? (bytes.size() + 1) / 2 : bytes.size());
  if (done <= 0) return done;
  if (offset < 0) offset = ::lseek(descriptor, 0, SEEK_CUR) - done;
  record("write", offset, path, {bytes.data(), static_cast<size_t>(done)});
  return done;
}

template <class Call>
int synced(const Call& call, int descriptor) {
  const std::string path = watched_path(descriptor);
  if (path.empty()) return call();
  const auto turn = journal_turn();
  if (count(kSync).error != 0) return -1;
  const int status = call();
  if (status == 0) record("sync", 0, path);
  return status;
}

template <class Call>
int resized(const Call& call, int descriptor, off_t length) {
  const std::string path = watched_path(descriptor);
  if (path.empty()) return call();
  const auto turn = journal_turn();
  if (count(kTruncate).error != 0) return -1;
  const int status = call();
  if (status == 0) record("cut", length, path);
  return status;
}

// What a stream has not given to the system yet.
std::string waiting(FILE* file) {
  return {file->_IO_write_base, static_cast<size_t>(file->_IO_write_ptr - file->_IO_write_base)};
}

// A flush that fails has written half of the bytes, as that of a full disk, and dropped the others. Returns whether
// it may go on.
bool may_flush(FILE* file, const std::string& bytes) {
  static const auto write_now = next_call<ssize_t(int, const void*, size_t)>("write");
  const int descriptor = ::fileno(file);
  const Verdict verdict = count(kWrite);
  if (verdict.error == 0) return true;
  if (verdict.error == ENOSPC) {
    const ssize_t done = write_now(descriptor, bytes.data(), bytes.size() / 2);
    record("write", ::lseek(descriptor, 0, SEEK_CUR) - done, watched_path(descriptor),
           std::string_view(bytes).substr(0, bytes.size() / 2));
  }
  ::__fpurge(file);
  errno = verdict.error;
  return false;
}

// Flushes a stream that has something to write.
template <class Flush>
int flushed(const Flush& flush, FILE* file, const std::string& path) {
  const std::string bytes = waiting(file);
  const auto turn = journal_turn();
  if (!may_flush(file, bytes)) return EOF;
  const int status = flush();
  if (status != 0) return status;
  const int descriptor = ::fileno(file);
  record("write", ::lseek(descriptor, 0, SEEK_CUR) - static_cast<off_t>(bytes.size()), path, bytes);
  return status;
}

}  // namespace

extern "C" {

ssize_t write(int descriptor, const void* data, size_t size) {
  static const auto call = next_call<ssize_t(int, const void*, size_t)>("write");
  if (watched_path(descriptor).empty()) return call(descriptor, data, size);
  const std::string bytes(static_cast<const char*>(data), size);
  return written([&](size_t some) { return call(descriptor, data, some); }, descriptor, bytes, -1);
}

#define KLAB_PWRITE(name)                                                                                         \
  ssize_t name(int descriptor, const void* data, size_t size, off_t offset) {                                     \
    static const auto call = next_call<ssize_t(int, const void*, size_t, off_t)>(#name);                          \
    if (watched_path(descriptor).empty()) return call(descriptor, data, size, offset);                            \
    const std::string bytes(static_cast<const char*>(data), size);                                                \
    return written([&](size_t some) { return call(descriptor, data, some, offset); }, descriptor, bytes, offset); \
  }

KLAB_PWRITE(pwrite)
KLAB_PWRITE(pwrite64)

ssize_t writev(int descriptor, const iovec* parts, int count_of_parts) {
  static const auto call = next_call<ssize_t(int, const iovec*, int)>("writev");
  static const auto plain = next_call<ssize_t(int, const void*, size_t)>("write");
  if (watched_path(descriptor).empty()) return call(descriptor, parts, count_of_parts);
  std::string bytes;
  for (int i = 0; i < count_of_parts; ++i) bytes.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
  return written([&](size_t some) { return plain(descriptor, bytes.data(), some); }, descriptor, bytes, -1);
}

ssize_t read(int descriptor, void* data, size_t size) {
  static const auto call = next_call<ssize_t(int, void*, size_t)>("read");
  const Verdict verdict = count_open_file(kRead, descriptor);
  if (verdict.error != 0) return -1;
  return call(descriptor, data, verdict.cut ? (size + 1) / 2 : size);
}

int fsync(int descriptor) {
  static const auto call = next_call<int(int)>("fsync");
  return synced([&] { return call(descriptor); }, descriptor);
}

int fdatasync(int descriptor) {
  static const auto call = next_call<int(int)>("fdatasync");
  return synced([&] { return call(descriptor); }, descriptor);
}

#define KLAB_TRUNCATE(name)                                                       \
  int name(int descriptor, off_t length) noexcept {                               \
    static const auto call = next_call<int(int, off_t)>(#name);                   \
    return resized([&] { return call(descriptor, length); }, descriptor, length); \
  }

KLAB_TRUNCATE(ftruncate)
KLAB_TRUNCATE(ftruncate64)

#define KLAB_MAP(name)                                                                                  \
  void* name(void* at, size_t size, int protection, int flags, int descriptor, off_t offset) noexcept { \
    static const auto call = next_call<void*(void*, size_t, int, int, int, off_t)>(#name);              \
    if (descriptor >= 0 && count_open_file(kMap, descriptor).error != 0) return MAP_FAILED;             \
    return call(at, size, protection, flags, descriptor, offset);                                       \
  }

KLAB_MAP(mmap)
KLAB_MAP(mmap64)

int fflush(FILE* file) {
  static const auto call = next_call<int(FILE*)>("fflush");
  const std::string path = file == nullptr || ::__fpending(file) == 0 ? "" : watched_path(::fileno(file));
  return path.empty() ? call(file) : flushed([&] { return call(file); }, file, path);
}

int fclose(FILE* file) {
  static const auto call = next_call<int(FILE*)>("fclose");
  const bool lost = ::__fpending(file) > 0 && ::fflush(file) != 0;
  const int error = errno, status = call(file);
  if (!lost) return status;
  errno = error;
  return EOF;
}

}  // extern "C"
