// SPDX-License-Identifier: Apache-2.0
// Replaces the C library's calls that start processes and that read the wall clock.
#include <dlfcn.h>
#include <spawn.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "faults/shim/faults.h"

namespace {

using namespace klab::faults;

template <class Function>
Function* next_function(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

pid_t fork() noexcept {
  static const auto call = next_function<pid_t()>("fork");
  return count(kSpawn).error != 0 ? -1 : call();
}

#define KLAB_SPAWN(name)                                                                                       \
  int name(pid_t* id, const char* path, const posix_spawn_file_actions_t* files, const posix_spawnattr_t* how, \
           char* const arguments[], char* const variables[]) {                                                 \
    static const auto call = next_function<int(pid_t*, const char*, const posix_spawn_file_actions_t*,         \
                                               const posix_spawnattr_t*, char* const*, char* const*)>(#name);  \
    const int error = count(kSpawn).error;                                                                     \
    return error != 0 ? error : call(id, path, files, how, arguments, variables);                              \
  }

KLAB_SPAWN(posix_spawn)
KLAB_SPAWN(posix_spawnp)

int clock_gettime(clockid_t clock, timespec* now) noexcept {
  static const auto call = next_function<int(clockid_t, timespec*)>("clock_gettime");
  const int status = call(clock, now);
  if (clock == CLOCK_REALTIME) now->tv_sec += clock_jump();
  return status;
}

int gettimeofday(timeval* now, void* zone) noexcept {
  static const auto call = next_function<int(timeval*, void*)>("gettimeofday");
  const int status = call(now, zone);
  now->tv_sec += clock_jump();
  return status;
}

time_t time(time_t* at) noexcept {
  static const auto call = next_function<time_t(time_t*)>("time");
  const time_t now = call(nullptr) + clock_jump();
  if (at != nullptr) *at = now;
  return now;
}

}  // extern "C"
