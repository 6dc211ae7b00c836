// The CUDA execution model on the host: enough of it to run this project's kernels, and to catch what a GPU forgives.
//
// Every CUDA thread is a fiber. A fiber runs until it must wait: at a barrier, or in a warp collective (shuffle, matrix
// load, matrix product), which is a rendezvous of the warp's lanes. Which fiber goes on is a matter of the schedule, so
// a missing barrier shows as a wrong result under one of them: `ascending` lets the first warp run as far ahead as the
// barriers allow, `descending` the last one, `shuffled` draws lots. Shared memory starts as NaN and is a heap block of
// its exact size, for the address sanitizer. Asynchronous copies land at their wait, or at once under `descending`:
// both are allowed.
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

/// The schedule of the grids that follow; `seed` is that of `shuffled`.
void set_schedule(Schedule schedule, uint64_t seed = 0);

constexpr int kNoBarrier = -1, kWarpBarrier = -2, kTransfers = -3;

/// Every barrier of that number (0: the block's; kWarpBarrier: those of warps; kTransfers: waits for bulk copies) lets
/// threads pass without waiting, so that a test can show that what it guards is noticed.
void ignore_barrier(int barrier);
bool ignores_warp_barriers();

/// Runs `body` once per thread of the grid, block after block. Throws std::runtime_error that names the block and what
/// its threads wait for when none of them can go on, and whatever `body` throws.
void run_grid(Index grid, unsigned threads, size_t shared_bytes, const std::function<void()>& body);

/// Grids that were run, and products of warpgroups of all threads, since the program began.
int64_t grids_run();
int64_t warpgroup_products();
void count_warpgroup_product();

// --- What platform.cuh is made of; called from within a body ---------------------------------------------------

Index block_index();
Index grid_size();
unsigned thread_index();
unsigned thread_count();
void* shared_memory();

/// Waits until `threads` threads have come to barrier `barrier`, by this or by arrive().
void synchronise(int barrier, unsigned threads);
void arrive(int barrier, unsigned threads);

constexpr int kLanes = 32;
constexpr size_t kMostBytes = 64;  ///< that a lane hands in or gets

/// Takes what all lanes of a warp hand in, [lane] of bytes `kMostBytes` apart, and gives each its result, likewise.
using Combine = void (*)(const unsigned char* in, unsigned char* out);

/// Waits until every lane of the warp has come with the same `name`; returns this lane's result.
const void* meet(const char* name, const void* in, size_t bytes, Combine combine);

void copy_async(void* to, const void* from, size_t bytes);
void commit_copies();
void wait_for_copies(int pending_groups);

/// Bulk copies are counted by a place in shared memory, in rounds: a round is over when all its bytes were announced
/// (once) and copied. They land at the first wait, as copy_async's do.
void begin_transfers(const void* counter);
void expect_transfers(const void* counter, size_t bytes);
void copy_bulk(void* to, const void* from, size_t bytes, const void* counter);
void wait_for_transfers(const void* counter, int round);
int64_t bulk_copies();

}  // namespace klab::emulation
