#include "core/base/memory.h"

#if defined(__linux__)
#include <malloc.h>
#endif

#include <limits>

namespace klab {

#if defined(__GLIBC__)

void keep_freed_memory() {
  constexpr int kLargest = 32 << 20;  // glibc takes no larger threshold
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
