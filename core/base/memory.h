// SPDX-License-Identifier: Apache-2.0
// The machine's memory, and how the allocator handles freed memory.
#pragma once

#include <cstdint>

namespace klab {

/// Bytes of memory that this process may use: the machine's, or the limit of its cgroup if that is lower.
int64_t machine_memory();

/// Bytes of physical memory that this process has now, after it returned what it has freed; 0 if the system does not
/// tell.
int64_t resident_memory();

/// Keeps freed memory in the process. Every training step allocates the same large tensors again; by default the C
/// library returns such memory to the system and maps it again each time, which takes a fifth of a training step.
void keep_freed_memory();

/// During its lifetime, large freed allocations are returned to the system immediately. For loading, where small
/// permanent tensors between large temporary ones would otherwise fragment the heap to several times the used memory.
class ReturnFreedMemory {
 public:
  ReturnFreedMemory();
  ~ReturnFreedMemory() { keep_freed_memory(); }
  ReturnFreedMemory(const ReturnFreedMemory&) = delete;
  ReturnFreedMemory& operator=(const ReturnFreedMemory&) = delete;
};

}  // namespace klab
