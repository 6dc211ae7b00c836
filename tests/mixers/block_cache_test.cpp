// SPDX-License-Identifier: Apache-2.0
#include "core/model/block_cache.h"

#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <optional>
#include <vector>

#include "core/train/memory_meter.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kMega = int64_t{1} << 20;

Tensor bytes(int64_t count) { return torch::empty({count}, torch::kByte); }

class BlockCacheTest : public testing::Test {
 protected:
  BlockCacheTest() : before_(c10::GetCPUAllocator()) { use_block_cache(); }
  ~BlockCacheTest() override { c10::SetCPUAllocator(before_, /*priority=*/1); }

 private:
  c10::Allocator* before_;
};

TEST_F(BlockCacheTest, UsesAFreedBlockAgain) {
  std::optional<Tensor> first = bytes(64 * kMega);
  const void* const address = first->const_data_ptr();
  first.reset();
  const int64_t before = block_cache_bytes();
  const Tensor second = bytes(60 * kMega);
  EXPECT_EQ(second.const_data_ptr(), address);
  EXPECT_EQ(block_cache_bytes(), before);
}

TEST_F(BlockCacheTest, DoesNotUseAMuchLargerOne) {
  std::optional<Tensor> first = bytes(64 * kMega);
  const void* const address = first->const_data_ptr();
  first.reset();
  EXPECT_NE(bytes(32 * kMega).const_data_ptr(), address);
}

// Tensors of ever other sizes, none of which fits into the block of another.
TEST_F(BlockCacheTest, KeepsFewFreedBlocks) {
  std::vector<Tensor> all;
  for (int64_t i = 0; i < 8; ++i) all.push_back(bytes((40 + 7 * i) * kMega));
  const auto most = static_cast<double>(block_cache_bytes());
  all.clear();
  for (int64_t size = 3 * kMega; size < 39 * kMega; size += size / 7) {
    const Tensor one = bytes(size);
    EXPECT_LE(static_cast<double>(block_cache_bytes()), (1 + kBlockCacheShare) * most + 2 * kMega);
  }
}

TEST_F(BlockCacheTest, SmallTensorsHaveNoBlocks) {
  const int64_t before = block_cache_bytes();
  const Tensor small = bytes(kMega - 1);
  EXPECT_EQ(block_cache_bytes(), before);
  EXPECT_NE(small.const_data_ptr(), nullptr);
}

TEST_F(BlockCacheTest, TellsMemoryMeters) {
  std::optional<Tensor> before = bytes(3 * kMega);
  MemoryMeter meter;
  std::optional<Tensor> x = bytes(5 * kMega + 1);
  EXPECT_EQ(meter.live(), 5 * kMega + 1);
  before.reset();
  EXPECT_EQ(meter.live(), 5 * kMega + 1);
  x.reset();
  EXPECT_EQ(meter.live(), 0);
  EXPECT_EQ(meter.peak(), 5 * kMega + 1);
}

TEST_F(BlockCacheTest, HoldsWhatIsWritten) {
  Tensor x = torch::arange(3 * kMega, torch::kInt), y = x.clone();
  x.mul_(2);
  EXPECT_TRUE(torch::equal(x, y * 2));
}

}  // namespace
}  // namespace klab
