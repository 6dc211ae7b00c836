// SPDX-License-Identifier: Apache-2.0
#include "core/base/memory.h"

#if defined(__linux__)
#include <malloc.h>
#endif

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>

namespace klab {

int64_t machine_memory() {
  int64_t bytes = int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
  for (const char* limit : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    int64_t allowed = 0;
    if (std::ifstream(limit) >> allowed && allowed > 0) bytes = std::min(bytes, allowed);  // "max" is not a number
  }
  return bytes;
}

int64_t resident_memory() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
  int64_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

#if defined(__GLIBC__)

void keep_freed_memory() {
  constexpr int kLargest = 32 << 20;  // glibc's maximum threshold
  mallopt(M_MMAP_THRESHOLD, kLargest);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 2 * kLargest);
}

ReturnFreedMemory::ReturnFreedMemory() {
  constexpr int kSmall = 64 << 10;
  mallopt(M_MMAP_THRESHOLD, kSmall);
}

#else

void keep_freed_memory() {}
ReturnFreedMemory::ReturnFreedMemory() = default;

#endif

}  // namespace klab
