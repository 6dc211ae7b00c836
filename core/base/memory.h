// Memory of the machine, and the allocator's handling of freed memory.
#pragma once

#include <cstdint>

namespace klab {

/// Bytes of memory that this process may use: the machine's, or the limit of its control group where that is less.
int64_t machine_memory();

/// Every step allocates the same large tensors again. By default the C library takes such memory from the system and
/// gives it back each time, page by page: a fifth of a training step. From now on it stays.
void keep_freed_memory();

/// While one lives, large memory goes back to the system at once: for loading, where small tensors that stay between
/// large ones that go would leave holes of many times what is held.
class ReturnFreedMemory {
 public:
  ReturnFreedMemory();
  ~ReturnFreedMemory() { keep_freed_memory(); }
  ReturnFreedMemory(const ReturnFreedMemory&) = delete;
  ReturnFreedMemory& operator=(const ReturnFreedMemory&) = delete;
};

}  // namespace klab
