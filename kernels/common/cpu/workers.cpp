// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/cpu/workers.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace klab::kernels::cpu {
namespace {

// Products of many decays become denormal. Denormals are a hundred times slower than zeros and just as negligible.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" ::"r"(before_ | (uint64_t{1} << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(before_)); }

 private:
  uint64_t before_;
#endif
};

constexpr size_t kAlignment = 128;

}  // namespace

void run_tasks(int64_t count, const std::function<void(int64_t)>& work) {
  std::atomic<int64_t> next{0};
  const int64_t workers = std::min(count, threads());
  at::parallel_for(0, workers, 1, [&](int64_t, int64_t) {
    [[maybe_unused]] FlushDenormals flush_denormals;
    for (int64_t i = next++; i < count; i = next++) work(i);
  });
}

int64_t threads() { return at::get_num_threads(); }

void* scratch(size_t bytes) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<void, Free> memory;
  thread_local size_t size = 0;
  if (bytes > size) {
    memory.reset();
    size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    memory.reset(std::aligned_alloc(kAlignment, size));
    if (!memory) {
      size = 0;
      throw std::bad_alloc();
    }
  }
  return memory.get();
}

void advise_large_pages([[maybe_unused]] void* memory, [[maybe_unused]] size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kLargePage = uintptr_t{2} << 20;
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t begin = (address + kLargePage - 1) / kLargePage * kLargePage;
  const uintptr_t end = (address + bytes) / kLargePage * kLargePage;
  // Only a hint: the return value is ignored because failure only costs time.
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

int64_t heads_per_task(int64_t sequences, int64_t heads, int64_t most) {
  int64_t group = std::min(most, heads);
  while (group > 1 && sequences * ((heads + group - 1) / group) < 2 * threads()) group /= 2;
  return group;
}

}  // namespace klab::kernels::cpu
