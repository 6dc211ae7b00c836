// SPDX-License-Identifier: Apache-2.0
// Replaces the C library's calls that name files.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "faults/shim/faults.h"
#include "faults/shim/journal.h"

namespace {

using namespace klab::faults;

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

bool exists(const char* path, int folder) {
  struct stat status {};
  return ::fstatat(folder, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

void record_open(bool existed, bool truncates, const std::string& path) {
  if (!existed || truncates) record(existed ? "truncate" : "create", 0, path);
}

template <class Call>
int opened(const Call& call, int folder, const char* path, int flags) {
  const std::string watched = watched_path(path, folder);
  if (watched.empty()) return call();
  const auto turn = journal_turn();
  if (count(kOpen).error != 0) return -1;
  const bool writes = (flags & (O_CREAT | O_TRUNC)) != 0, existed = writes && exists(path, folder);
  const int descriptor = call();
  if (writes && descriptor >= 0) record_open(existed, (flags & O_TRUNC) != 0, watched);
  return descriptor;
}

template <class Call>
FILE* opened_stream(const Call& call, const char* path, const char* mode) {
  const std::string watched = watched_path(path, AT_FDCWD);
  if (watched.empty()) return call();
  const auto turn = journal_turn();
  if (count(kOpen).error != 0) return nullptr;
  const bool writes = mode[0] != 'r', existed = writes && exists(path, AT_FDCWD);
  FILE* file = call();
  if (file != nullptr && writes) record_open(existed, mode[0] == 'w', watched);
  return file;
}

// A call that changes one name.
template <class Call>
int changed(Kind kind, const char* operation, const Call& call, const char* path, int folder = AT_FDCWD,
            off_t offset = 0) {
  const std::string watched = watched_path(path, folder);
  if (watched.empty()) return call();
  const auto turn = journal_turn();
  if (count(kind).error != 0) return -1;
  const int status = call();
  if (status == 0) record(operation, offset, watched);
  return status;
}

template <class Call>
int renamed(const Call& call, int from_folder, const char* from, int to_folder, const char* to) {
  const std::string source = watched_path(from, from_folder), target = watched_path(to, to_folder);
  if (target.empty()) return call();
  const auto turn = journal_turn();
  if (count(kRename).error != 0) return -1;
  const int status = call();
  if (status == 0) record("rename", 0, source, target);
  return status;
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : mode_t{0};
}

}  // namespace

extern "C" {

#define KLAB_OPEN(name)                                                            \
  int name(const char* path, int flags, ...) {                                     \
    va_list more;                                                                  \
    va_start(more, flags);                                                         \
    const mode_t mode = mode_of(flags, more);                                      \
    va_end(more);                                                                  \
    static const auto call = next<int(const char*, int, ...)>(#name);              \
    return opened([&] { return call(path, flags, mode); }, AT_FDCWD, path, flags); \
  }

#define KLAB_OPENAT(name)                                                                \
  int name(int folder, const char* path, int flags, ...) {                               \
    va_list more;                                                                        \
    va_start(more, flags);                                                               \
    const mode_t mode = mode_of(flags, more);                                            \
    va_end(more);                                                                        \
    static const auto call = next<int(int, const char*, int, ...)>(#name);               \
    return opened([&] { return call(folder, path, flags, mode); }, folder, path, flags); \
  }

KLAB_OPEN(open)
KLAB_OPEN(open64)
KLAB_OPENAT(openat)
KLAB_OPENAT(openat64)

int creat(const char* path, mode_t mode) { return ::open(path, O_WRONLY | O_CREAT | O_TRUNC, mode); }

FILE* fopen(const char* path, const char* mode) {
  static const auto call = next<FILE*(const char*, const char*)>("fopen");
  return opened_stream([&] { return call(path, mode); }, path, mode);
}

FILE* fopen64(const char* path, const char* mode) {
  static const auto call = next<FILE*(const char*, const char*)>("fopen64");
  return opened_stream([&] { return call(path, mode); }, path, mode);
}

int rename(const char* from, const char* to) noexcept {
  static const auto call = next<int(const char*, const char*)>("rename");
  return renamed([&] { return call(from, to); }, AT_FDCWD, from, AT_FDCWD, to);
}

int renameat(int from_folder, const char* from, int to_folder, const char* to) noexcept {
  static const auto call = next<int(int, const char*, int, const char*)>("renameat");
  return renamed([&] { return call(from_folder, from, to_folder, to); }, from_folder, from, to_folder, to);
}

int mkdir(const char* path, mode_t mode) noexcept {
  static const auto call = next<int(const char*, mode_t)>("mkdir");
  return changed(
      kMakeFolder, "mkdir", [&] { return call(path, mode); }, path);
}

int mkdirat(int folder, const char* path, mode_t mode) noexcept {
  static const auto call = next<int(int, const char*, mode_t)>("mkdirat");
  return changed(
      kMakeFolder, "mkdir", [&] { return call(folder, path, mode); }, path, folder);
}

char* mkdtemp(char* pattern) noexcept {
  static const auto call = next<char*(char*)>("mkdtemp");
  return count_path(kMakeFolder, pattern, AT_FDCWD).error != 0 ? nullptr : call(pattern);
}

#define KLAB_SHORTEN(name)                                                             \
  int name(const char* path, off_t length) noexcept {                                  \
    static const auto call = next<int(const char*, off_t)>(#name);                     \
    return changed(                                                                    \
        kTruncate, "cut", [&] { return call(path, length); }, path, AT_FDCWD, length); \
  }

KLAB_SHORTEN(truncate)
KLAB_SHORTEN(truncate64)

int unlink(const char* path) noexcept {
  static const auto call = next<int(const char*)>("unlink");
  return changed(
      kRemove, "unlink", [&] { return call(path); }, path);
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  static const auto call = next<int(int, const char*, int)>("unlinkat");
  return changed(
      kRemove, "unlink", [&] { return call(folder, path, flags); }, path, folder);
}

int rmdir(const char* path) noexcept {
  static const auto call = next<int(const char*)>("rmdir");
  return changed(
      kRemove, "unlink", [&] { return call(path); }, path);
}

int remove(const char* path) noexcept {
  static const auto call = next<int(const char*)>("remove");
  return changed(
      kRemove, "unlink", [&] { return call(path); }, path);
}

}  // extern "C"
