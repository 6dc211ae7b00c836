// SPDX-License-Identifier: Apache-2.0
#include "core/model/block_cache.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <unordered_map>

namespace klab {
namespace {

constexpr size_t kLarge = size_t{1} << 20, kPage = size_t{64} << 10, kHugePage = size_t{2} << 20;

struct Block {
  void* address;
  size_t bytes;      // of the mapping
  size_t requested;  // by the tensor
};

class BlockCache : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes < kLarge) return c10::GetDefaultCPUAllocator()->allocate(bytes);
    void* const address = take(bytes);
    report(address, static_cast<int64_t>(bytes));
    return {address, address, &release, at::Device(at::kCPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

  size_t mapped() const {
    const std::lock_guard lock(mutex_);
    return mapped_;
  }

 private:
  using Kept = std::list<Block>;  // the least recently used first

  static void release(void* address);

  void* take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    Block block = known(bytes);
    block.requested = bytes;
    used_ += block.bytes;
    most_used_ = std::max(most_used_, used_);
    taken_.emplace(block.address, block);
    return block.address;
  }

  // A kept block that fits, or a new one.
  Block known(size_t bytes) {
    const auto fits = by_size_.lower_bound(bytes);
    if (fits != by_size_.end() && fits->first <= bytes + bytes / 2) {
      const Block block = *fits->second;
      kept_.erase(fits->second);
      by_size_.erase(fits);
      return block;
    }
    const size_t page = bytes >= 4 * kHugePage ? kHugePage : kPage;
    const size_t size = (bytes + page - 1) / page * page;
    make_room(size);
    return map(size);
  }

  void make_room(size_t bytes) {
    const auto most = static_cast<double>(std::max(most_used_, used_ + bytes));
    const auto allowed = static_cast<size_t>((1 + kBlockCacheShare) * most);
    while (!kept_.empty() && mapped_ + bytes > allowed) forget(kept_.begin());
  }

  Block map(size_t size) {
    void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED && !kept_.empty()) {
      while (!kept_.empty()) forget(kept_.begin());
      address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    TORCH_CHECK(address != MAP_FAILED, "not enough memory for a tensor of ", size, " bytes");
#if defined(MADV_HUGEPAGE)
    if (size >= 4 * kHugePage) ::madvise(address, size, MADV_HUGEPAGE);
#endif
    mapped_ += size;
    return {address, size, size};
  }

  void forget(Kept::iterator block) {
    auto [first, last] = by_size_.equal_range(block->bytes);
    by_size_.erase(std::find_if(first, last, [&](const auto& entry) { return entry.second == block; }));
    ::munmap(block->address, block->bytes);
    mapped_ -= block->bytes;
    kept_.erase(block);
  }

  // The number of bytes that were requested, or nothing if the address is not of a block in use.
  std::optional<size_t> keep(void* address) {
    const std::lock_guard lock(mutex_);
    const auto found = taken_.find(address);
    if (found == taken_.end()) return std::nullopt;
    const Block block = found->second;
    taken_.erase(found);
    used_ -= block.bytes;
    by_size_.emplace(block.bytes, kept_.insert(kept_.end(), block));
    return block.requested;
  }

  // To profilers, MemoryMeter among them.
  void report(void* address, int64_t bytes) const {
    if (!c10::memoryProfilingEnabled()) return;
    c10::reportMemoryUsageToProfiler(address, bytes, mapped(), mapped(), at::Device(at::kCPU));
  }

  mutable std::mutex mutex_;
  std::unordered_map<void*, Block> taken_;
  Kept kept_;
  std::multimap<size_t, Kept::iterator> by_size_;
  size_t mapped_ = 0, used_ = 0, most_used_ = 0;
};

// Never destroyed: tensors of static lifetime may be freed later.
BlockCache& cache() {
  static auto* const one = new BlockCache;
  return *one;
}

void BlockCache::release(void* address) {
  if (address == nullptr) return;
  if (const auto bytes = cache().keep(address)) return cache().report(address, -static_cast<int64_t>(*bytes));
  c10::GetDefaultCPUAllocator()->raw_deleter()(address);
}

}  // namespace

void use_block_cache() { c10::SetCPUAllocator(&cache(), /*priority=*/1); }

int64_t block_cache_bytes() { return static_cast<int64_t>(cache().mapped()); }

}  // namespace klab
