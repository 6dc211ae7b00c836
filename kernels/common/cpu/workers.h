// Threads, scratch memory and floating-point mode for the kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace klab::kernels::cpu {

/// Runs work(i) for every i < count on ATen's threads, whoever is free taking the next. Denormals are zero meanwhile.
/// What is computed must depend on i alone.
void run_tasks(int64_t count, const std::function<void(int64_t)>& work);

/// How many there are.
int64_t threads();

/// At least `bytes` of this thread's own memory, aligned to 128 of them, kept from call to call: fresh memory of this
/// size would come from the system, page fault by page fault. Valid until the same thread asks again.
void* scratch(size_t bytes);

/// Asks for large pages for memory that is about to be written for the first time. A tensor of many megabytes is new
/// memory at every call, and in small pages the system's work on it takes as long as the kernel's.
void advise_large_pages(void* memory, size_t bytes);

/// How many heads one task takes side by side: their rows are neighbours in memory and their states fit the
/// second-level cache, as long as there are tasks enough for the threads.
int64_t heads_per_task(int64_t sequences, int64_t heads, int64_t most);

}  // namespace klab::kernels::cpu
