// SPDX-License-Identifier: Apache-2.0
// Threads, scratch memory and floating-point mode for the kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace klab::kernels::cpu {

/// Runs work(i) for every i < count on ATen's threads, dynamically scheduled, with denormals flushed to zero. The
/// result of work(i) must depend on i alone.
void run_tasks(int64_t count, const std::function<void(int64_t)>& work);

/// The number of threads of run_tasks().
int64_t threads();

/// At least `bytes` of thread-local memory, aligned to 128 bytes. Reused between calls, because new allocations of this
/// size cause page faults. Valid until the next call on the same thread.
void* scratch(size_t bytes);

/// Requests huge pages for memory that is about to be written for the first time. A tensor of many megabytes is newly
/// mapped at every call, and with small pages the page faults take as long as the kernel.
void advise_large_pages(void* memory, size_t bytes);

/// The number of adjacent heads per task, at most `most`: their rows are adjacent in memory and their states fit the L2
/// cache. Smaller if there would be too few tasks for the threads.
int64_t heads_per_task(int64_t sequences, int64_t heads, int64_t most);

}  // namespace klab::kernels::cpu
