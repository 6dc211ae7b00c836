// SPDX-License-Identifier: Apache-2.0
#include "emulation.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <exception>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace klab::emulation {
namespace {

constexpr size_t kStack = size_t{1} << 20;
constexpr int kBarriers = 16;
constexpr unsigned kMostThreads = 1024;

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

struct Fiber {
  char* stack = nullptr;
  jmp_buf place;
  ucontext_t first;
  bool started = false, finished = false;
  const char* waits_for = nullptr;
  int barrier = -1;  // number of the barrier that it waits at
  std::vector<std::vector<Copy>> groups;
  std::vector<Copy> open_group;
  void* fake_stack = nullptr;
};

struct Barrier {
  unsigned arrived = 0, expected = 0;
  std::vector<unsigned> waiting;
};

struct Warp {
  const char* name = nullptr;
  int arrived = 0;
  alignas(16) unsigned char in[kLanes][kMostBytes];
  alignas(16) unsigned char out[kLanes][kMostBytes];
};

struct Machine {
  Schedule schedule = Schedule::ascending;
  std::mt19937_64 random{0};
  int ignored_barrier = kNoBarrier;
  int64_t grids = 0, warpgroup_products = 0, async_copies = 0;

  Index grid, block;
  unsigned threads = 0, current = 0;
  std::unique_ptr<unsigned char[]> shared;
  const std::function<void()>* body = nullptr;
  std::vector<Fiber> fibers;
  std::array<Barrier, kBarriers> barriers;
  std::vector<Warp> warps;
  std::array<uint64_t, kMostThreads / 64> ready{};
  jmp_buf scheduler;
  std::exception_ptr error;
  bool running = false;
  const void* main_stack = nullptr;
  size_t main_stack_size = 0;
  void* main_fake_stack = nullptr;
};

Machine machine;

void set_ready(unsigned thread) { machine.ready[thread / 64] |= uint64_t{1} << (thread % 64); }

// Picks the next thread to run; -1 if all threads wait or have finished.
int choose() {
  const unsigned words = (machine.threads + 63) / 64;
  const unsigned shift = machine.schedule == Schedule::shuffled ? static_cast<unsigned>(machine.random() % words) : 0;
  for (unsigned i = 0; i < words; ++i) {
    const unsigned at = machine.schedule == Schedule::descending ? words - 1 - i : (i + shift) % words;
    const uint64_t word = machine.ready[at];
    if (word == 0) continue;
    int bit = std::countr_zero(word);
    if (machine.schedule == Schedule::descending) bit = 63 - std::countl_zero(word);
    if (machine.schedule == Schedule::shuffled) {
      const int turn = static_cast<int>(machine.random() % 64);
      bit = (std::countr_zero(std::rotr(word, turn)) + turn) % 64;
    }
    machine.ready[at] &= ~(uint64_t{1} << bit);
    return static_cast<int>(at * 64) + bit;
  }
  return -1;
}

// The address sanitizer must be notified of every stack switch.
void leave_for_fiber([[maybe_unused]] Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&machine.main_fake_stack, fiber.stack, kStack);
#endif
}
void back_in_scheduler() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(machine.main_fake_stack, nullptr, nullptr);
#endif
}
void leave_for_scheduler([[maybe_unused]] Fiber& fiber, [[maybe_unused]] bool for_good) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.fake_stack, machine.main_stack, machine.main_stack_size);
#endif
}
void back_in_fiber([[maybe_unused]] Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &machine.main_stack, &machine.main_stack_size);
#endif
}

void run_fiber() {
  Fiber& fiber = machine.fibers[machine.current];
  back_in_fiber(fiber);
  try {
    (*machine.body)();
  } catch (...) {
    if (!machine.error) machine.error = std::current_exception();
  }
  fiber.finished = true;
  leave_for_scheduler(fiber, true);
  _longjmp(machine.scheduler, 1);
}

// Suspends this thread until set_ready() is called for it.
void wait(const char* what, int barrier) {
  Fiber& fiber = machine.fibers[machine.current];
  fiber.waits_for = what;
  fiber.barrier = barrier;
  leave_for_scheduler(fiber, false);
  if (_setjmp(fiber.place) == 0) _longjmp(machine.scheduler, 1);
  back_in_fiber(fiber);
  fiber.waits_for = nullptr;
}

void resume(unsigned thread) {
  machine.current = thread;
  Fiber& fiber = machine.fibers[thread];
  leave_for_fiber(fiber);
  if (_setjmp(machine.scheduler) == 0) {
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.first);
  }
  back_in_scheduler();
}

std::string stuck() {
  std::string text = "block (" + std::to_string(machine.block.x) + ", " + std::to_string(machine.block.y) + ", " +
                     std::to_string(machine.block.z) + ") is deadlocked:";
  std::string last;
  for (unsigned t = 0; t < machine.threads; ++t) {
    const Fiber& fiber = machine.fibers[t];
    std::string state = fiber.finished ? "has ended" : "waits for ";
    if (!fiber.finished) state += fiber.waits_for;
    if (!fiber.finished && fiber.barrier >= 0) state += " " + std::to_string(fiber.barrier);
    if (state != last) text += "\n  from thread " + std::to_string(t) + ": " + state;
    last = state;
  }
  return text;
}

void prepare_fibers() {
  machine.fibers.resize(std::max<size_t>(machine.fibers.size(), machine.threads));
  for (unsigned t = 0; t < machine.threads; ++t) {
    Fiber& fiber = machine.fibers[t];
    if (fiber.stack == nullptr) {
      void* memory = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) throw std::bad_alloc();
      fiber.stack = static_cast<char*>(memory);
    }
    getcontext(&fiber.first);
    fiber.first.uc_stack.ss_sp = fiber.stack;
    fiber.first.uc_stack.ss_size = kStack;
    fiber.first.uc_link = nullptr;
    makecontext(&fiber.first, run_fiber, 0);
    fiber.started = fiber.finished = false;
    fiber.waits_for = nullptr;
    fiber.groups.clear();
    fiber.open_group.clear();
    fiber.fake_stack = nullptr;
    set_ready(t);
  }
}

void run_block(size_t shared_bytes) {
  machine.shared = std::make_unique<unsigned char[]>(shared_bytes);
  std::memset(machine.shared.get(), 0xff, shared_bytes);  // NaN in every format
  machine.ready.fill(0);
  machine.barriers = {};
  machine.warps.assign((machine.threads + kLanes - 1) / kLanes, {});
  prepare_fibers();
  for (int next; !machine.error && (next = choose()) >= 0;) resume(static_cast<unsigned>(next));
  if (machine.error) std::rethrow_exception(std::exchange(machine.error, nullptr));
  for (unsigned t = 0; t < machine.threads; ++t) {
    if (!machine.fibers[t].finished) throw std::runtime_error(stuck());
  }
}

unsigned lanes_of(unsigned warp) { return std::min<unsigned>(kLanes, machine.threads - warp * kLanes); }

// Counts the arrival of a thread; true if it completes the barrier.
bool count_in(int number, unsigned threads) {
  Barrier& barrier = machine.barriers.at(static_cast<size_t>(number));
  if (barrier.arrived == 0) barrier.expected = threads;
  if (barrier.expected != threads) {
    throw std::runtime_error("barrier " + std::to_string(number) + " is waited for by " +
                             std::to_string(barrier.expected) + " and by " + std::to_string(threads) + " threads");
  }
  if (++barrier.arrived < threads) return false;
  for (const unsigned thread : barrier.waiting) set_ready(thread);
  barrier.waiting.clear();
  barrier.arrived = 0;
  return true;
}

void land(const std::vector<Copy>& copies) {
  for (const Copy& copy : copies) std::memcpy(copy.to, copy.from, copy.bytes);
}

}  // namespace

void set_schedule(Schedule schedule, uint64_t seed) {
  machine.schedule = schedule;
  machine.random.seed(seed);
}

void ignore_barrier(int barrier) { machine.ignored_barrier = barrier; }

int64_t async_copies() { return machine.async_copies; }

bool ignores_warp_barriers() { return machine.ignored_barrier == kWarpBarrier; }

namespace {
size_t shared_limit = size_t{227} * 1024;
}

void set_shared_memory_limit(size_t bytes) { shared_limit = bytes; }
size_t shared_memory_limit() { return shared_limit; }

void run_grid(Index grid, unsigned threads, size_t shared_bytes, const std::function<void()>& body) {
  if (shared_bytes > shared_limit) throw std::runtime_error("a block wants more shared memory than the device has");
  if (threads == 0 || threads > kMostThreads) throw std::runtime_error("a block has 1 to 1024 threads");
  ++machine.grids;
  machine.grid = grid;
  machine.threads = threads;
  machine.body = &body;
  for (machine.block.z = 0; machine.block.z < grid.z; ++machine.block.z) {
    for (machine.block.y = 0; machine.block.y < grid.y; ++machine.block.y) {
      for (machine.block.x = 0; machine.block.x < grid.x; ++machine.block.x) run_block(shared_bytes);
    }
  }
}

int64_t grids_run() { return machine.grids; }
int64_t warpgroup_products() { return machine.warpgroup_products; }
void count_warpgroup_product() { ++machine.warpgroup_products; }

Index block_index() { return machine.block; }
Index grid_size() { return machine.grid; }
unsigned thread_index() { return machine.current; }
unsigned thread_count() { return machine.threads; }
void* shared_memory() { return machine.shared.get(); }

void synchronise(int barrier, unsigned threads) {
  if (barrier == machine.ignored_barrier) return;
  if (count_in(barrier, threads)) return;
  machine.barriers[static_cast<size_t>(barrier)].waiting.push_back(machine.current);
  wait("barrier", barrier);
}

void arrive(int barrier, unsigned threads) {
  if (barrier != machine.ignored_barrier) count_in(barrier, threads);
}

const void* meet(const char* name, const void* in, size_t bytes, Combine combine) {
  const unsigned number = machine.current / kLanes, lane = machine.current % kLanes;
  Warp& warp = machine.warps[number];
  if (warp.arrived == 0) warp.name = name;
  if (std::strcmp(warp.name, name) != 0) {
    throw std::runtime_error(std::string("a warp has parted: some lanes are at ") + warp.name + ", others at " + name);
  }
  std::memcpy(warp.in[lane], in, bytes);
  if (++warp.arrived < static_cast<int>(lanes_of(number))) {
    wait(name, -1);
  } else {
    warp.arrived = 0;
    combine(warp.in[0], warp.out[0]);
    for (unsigned i = 0; i < lanes_of(number); ++i) {
      if (i != lane) set_ready(number * kLanes + i);
    }
  }
  return machine.warps[number].out[lane];
}

void copy_async(void* to, const void* from, size_t bytes) {
  if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % bytes != 0) {
    throw std::runtime_error("an asynchronous copy of " + std::to_string(bytes) + " bytes is not aligned to them");
  }
  ++machine.async_copies;
  if (machine.schedule == Schedule::descending) {
    std::memcpy(to, from, bytes);
  } else {
    machine.fibers[machine.current].open_group.push_back({to, from, bytes});
  }
}

void commit_copies() {
  Fiber& fiber = machine.fibers[machine.current];
  fiber.groups.push_back(std::exchange(fiber.open_group, {}));
}

void wait_for_copies(int pending_groups) {
  if (machine.ignored_barrier == kCopies) return;
  auto& groups = machine.fibers[machine.current].groups;
  while (static_cast<int>(groups.size()) > pending_groups) {
    land(groups.front());
    groups.erase(groups.begin());
  }
}

}  // namespace klab::emulation
