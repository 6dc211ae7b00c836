// SPDX-License-Identifier: Apache-2.0
// An emulation of the part of CUDA's execution model that this project's kernels use. It also detects errors that a GPU
// often hides.
//
// Every CUDA thread is a fiber. A fiber runs until it must wait: at a barrier, or in a warp collective (shuffle, matrix
// load, matrix product), which waits for all lanes of the warp. The schedule selects the next fiber, so that a missing
// barrier gives wrong results with at least one schedule: `ascending` lets the first warp run as far ahead as the
// barriers allow, `descending` the last one, `shuffled` selects randomly. Shared memory is initialised with NaN and is
// a heap block of its exact size, for the address sanitizer. Asynchronous copies complete at their wait, or immediately
// with `descending`: both are allowed by CUDA.
//
// One grid runs at a time, on the calling thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace klab::emulation {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

enum class Schedule { ascending, descending, shuffled };

/// Sets the schedule of the following grids; `seed` is for `shuffled`.
void set_schedule(Schedule schedule, uint64_t seed = 0);

constexpr int kNoBarrier = -1, kWarpBarrier = -2, kCopies = -3;

/// Makes threads pass every barrier of that number (0: the block's; kWarpBarrier: those of warps; kCopies: waits for
/// asynchronous copies) without waiting, so that a test can show that a missing barrier is detected.
void ignore_barrier(int barrier);
bool ignores_warp_barriers();

/// Runs `body` once per thread of the grid, block by block. On a deadlock throws std::runtime_error that names the
/// block and what its threads wait for. Propagates exceptions of `body`.
void run_grid(Index grid, unsigned threads, size_t shared_bytes, const std::function<void()>& body);

/// Bytes of shared memory that a block can have: at first those of compute capability 9.0. run_grid() throws for more.
void set_shared_memory_limit(size_t bytes);
size_t shared_memory_limit();

/// Counters since the start of the program: grids, warpgroup products and asynchronous copies (summed over threads).
int64_t grids_run();
int64_t warpgroup_products();
int64_t async_copies();
void count_warpgroup_product();

// --- Building blocks of platform.cuh, called from within a body ------------------------------------------------

Index block_index();
Index grid_size();
unsigned thread_index();
unsigned thread_count();
void* shared_memory();

/// Waits until `threads` threads have arrived at `barrier`, by this function or by arrive().
void synchronise(int barrier, unsigned threads);
void arrive(int barrier, unsigned threads);

constexpr int kLanes = 32;
constexpr size_t kMostBytes = 64;  ///< largest input or result of a lane

/// Computes the results of all lanes of a warp from their inputs; both are arrays by lane with stride `kMostBytes`.
using Combine = void (*)(const unsigned char* in, unsigned char* out);

/// Waits until all lanes of the warp have called it with the same `name`; returns this lane's result.
const void* meet(const char* name, const void* in, size_t bytes, Combine combine);

void copy_async(void* to, const void* from, size_t bytes);
void commit_copies();
void wait_for_copies(int pending_groups);

}  // namespace klab::emulation
