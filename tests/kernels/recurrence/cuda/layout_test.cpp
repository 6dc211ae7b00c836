// SPDX-License-Identifier: Apache-2.0
// The shared memory layout of a chunk, and the level of every pair of tokens.
#include <gtest/gtest.h>

#include <set>
#include <utility>

#include "kernels/recurrence/cuda/gradient_layout.h"

namespace klab::kernels::cuda {
namespace {

// Every element has a unique offset inside the tile, and eight channels of a token form an aligned block of 16 bytes.
template <int kWidth, TileOrder kOrder>
void expect_tile() {
  using Tiles = TileLayout<kWidth, kOrder>;
  std::set<int> taken, small;
  for (int token = 0; token < kChunk; ++token) {
    for (int channel = 0; channel < kWidth; ++channel) {
      const int at = Tiles::offset(token, channel);
      EXPECT_TRUE(taken.insert(at).second && at >= 0 && at < Tiles::kTileOfTokens) << token << ", " << channel;
      if (kOrder == TileOrder::rows_of_states) continue;
      EXPECT_EQ(at - at % 8 + channel % 8, at) << "eight channels are not an aligned block of 16 bytes";
    }
    for (int j = 0; j < kChunk; ++j) {
      const int at = Tiles::small_offset(token, j);
      EXPECT_TRUE(small.insert(at).second && at >= 0 && at < kChunk * kSmallStride) << token << ", " << j;
    }
  }
}

TEST(ChunkLayout, EveryElementHasItsOwnPlace) {
  expect_tile<64, TileOrder::rows>();
  expect_tile<64, TileOrder::rows_of_states>();
  expect_tile<128, TileOrder::rows>();
  expect_tile<128, TileOrder::rows_of_states>();
  expect_tile<256, TileOrder::rows>();
  expect_tile<256, TileOrder::rows_of_states>();
  expect_tile<64, TileOrder::core_matrices>();
  expect_tile<128, TileOrder::core_matrices>();
}

// Core matrices of 128 bytes with contiguous rows of 16 bytes, as in wgmma's descriptors; the second tile of rows
// follows the first like a further pair of token groups.
TEST(ChunkLayout, CoreMatricesLieAsTheInstructionReadsThem) {
  using Tiles = TileLayout<128, TileOrder::core_matrices>;
  for (int token = 0; token < kChunk; ++token) {
    for (int channel = 0; channel < 128; ++channel) {
      const int inside = token % 8 * 8 + channel % 8;
      EXPECT_EQ(Tiles::offset(token, channel),
                token / 8 * Tiles::kTokenStep + channel / 8 * Tiles::kChannelStep + inside);
    }
  }
  EXPECT_EQ(Tiles::kTileOfTokens, 2 * Tiles::kTokenStep);
  EXPECT_EQ(Tiles::kChannelStep * 2 % 16, 0);
  EXPECT_EQ(Tiles::kTokenStep * 2 % 16, 0);
}

TEST(ChunkLayout, KeptStatesHoldEveryChannelOnce) {
  std::set<int> taken;
  for (int channel = 0; channel < 128; ++channel) {
    taken.insert(state_position<128>(channel));
    EXPECT_EQ(channel_at<128>(state_position<128>(channel)), channel);
  }
  EXPECT_EQ(taken.size(), 128U);
  EXPECT_EQ(*taken.rbegin(), 127);
  for (int t = 0; t < 4; ++t) {  // a lane's channels 2t, 2t + 1 of every eight are contiguous
    for (int n = 0; n < 16; ++n) EXPECT_EQ(state_position<128>(n * 8 + 2 * t), t * 32 + n * 2);
  }
}

// Each lane of a warp writes two adjacent channels: 32 words in 32 different banks.
TEST(ChunkLayout, WritesOfAWarpMeetEveryBankOnce) {
  const auto banks = [](auto tiles) {
    std::set<int> all;
    for (int lane = 0; lane < 32; ++lane) all.insert(decltype(tiles)::offset(5, 2 * lane) / 2 % 32);
    return all.size();
  };
  EXPECT_EQ(banks(TileLayout<128, TileOrder::rows>()), 32U);
  EXPECT_EQ(banks(TileLayout<128, TileOrder::core_matrices>()), 32U);
}

TEST(ChunkLayout, TwoTokensMeetAtOneLevel) {
  std::set<std::pair<int, int>> met;
  for (int half = kChunk / 2; half > 0; half /= 2) {
    for (int upper = 0; upper < kChunk / 2; ++upper) {
      for (int lower = 0; lower < kChunk / 2; ++lower) {
        if (!same_block(half, upper, lower)) continue;
        const int i = upper_token(half, upper), j = lower_token(half, lower);
        EXPECT_LT(j, i);
        EXPECT_TRUE(met.insert({i, j}).second) << i << ", " << j;
      }
    }
  }
  EXPECT_EQ(met.size(), static_cast<size_t>(kChunk * (kChunk - 1) / 2));
}

// Slots of packed sequences do not overlap, and there are enough of them.
TEST(ChunkLayout, PackedSequencesHaveTheirOwnSlots) {
  const int64_t offsets[] = {0, 1, 17, 33, 49, 50, 66, 99, 100};
  const int64_t count = 8;
  const Sequences packed{count, 100, offsets};
  for (int64_t n = 0; n < count; ++n) {
    const int64_t first = first_chunk_slot(packed, n, offsets[n]);
    const int64_t chunks = (offsets[n + 1] - offsets[n] + kChunk - 1) / kChunk;
    const int64_t next = n + 1 < count ? first_chunk_slot(packed, n + 1, offsets[n + 1]) : chunk_slots(packed);
    EXPECT_LE(first + chunks, next) << "sequence " << n;
  }
}

}  // namespace
}  // namespace klab::kernels::cuda
