// SPDX-License-Identifier: Apache-2.0
// The shared memory layout of the chunk kernels. Everything here is constexpr and tested on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/recurrence/cuda/recurrence.h"

namespace klab::kernels::cuda {

constexpr int kRowPaddingOf16 = 8;
constexpr int kSmallStride = kChunk + 8;  ///< row stride of the 16 x 16 operand matrices, in elements
constexpr int kPairStride = kChunk + 4;   ///< row stride of the 16 x 16 float matrices: rows of 16-byte blocks
constexpr int kLevels = 4;                ///< 16 tokens are halved four times
constexpr int kMostGroups = 4;            ///< producer groups, limited by the number of named barriers
constexpr int kSlice = 16;                ///< columns of V per consumer warp
constexpr int kMostConsumers = 4;         ///< consumer warps per block
constexpr size_t kSharedOfHopper = size_t{227} * 1024;  ///< shared memory per block of sm_90

constexpr size_t aligned(size_t bytes) { return (bytes + 127) / 128 * 128; }

/// The order of the channels in the states that the backward pass keeps in memory: a lane of a consumer warp has two
/// adjacent channels of every eight of a state's row; in this order they are contiguous.
template <int kWidth>
constexpr int state_position(int channel) {
  return channel % 8 / 2 * (kWidth / 4) + channel / 8 * 2 + channel % 2;
}
template <int kWidth>
constexpr int channel_at(int position) {
  return position % (kWidth / 4) / 2 * 8 + position / (kWidth / 4) * 2 + position % 2;
}

enum class TileOrder { rows, rows_of_states, core_matrices };

/// Layout of the key rows and 16 x 16 matrices in a stage: padded row-major, with the channels in their own order or in
/// that of the kept states, with which the rows are multiplied; or, for wgmma, core matrices of 8 tokens x
/// 8 channels, 128 bytes each, with tokens 16 bytes apart. A core matrix can be the right operand in both orientations:
/// [token][channel] is K-major and [channel][token] is MN-major. Core matrices adjacent in channels have 16 bytes of
/// padding between them, to avoid bank conflicts when they are written.
template <int kWidth, TileOrder kOrder>
struct TileLayout {
  static constexpr bool kCoreMatrices = kOrder == TileOrder::core_matrices;
  static constexpr int kStride = kWidth + kRowPaddingOf16;                             ///< row stride, in elements
  static constexpr int kChannelStep = 64 + 8, kTokenStep = kWidth / 8 * kChannelStep;  ///< between core matrices
  static constexpr int kSmallTokenStep = 2 * 64;

  static constexpr int offset(int token, int channel) {
    if (kOrder == TileOrder::rows) return token * kStride + channel;
    if (kOrder == TileOrder::rows_of_states) return token * kStride + state_position<kWidth>(channel);
    return token / 8 * kTokenStep + channel / 8 * kChannelStep + token % 8 * 8 + channel % 8;
  }
  static constexpr int small_offset(int i, int j) {
    if (!kCoreMatrices) return i * kSmallStride + j;
    return i / 8 * kSmallTokenStep + j / 8 * 64 + i % 8 * 8 + j % 8;
  }
  static constexpr int kTileOfTokens = kCoreMatrices ? 2 * kTokenStep : kChunk * kStride;  ///< elements of 16 tokens
};

/// `kElement` bytes per operand element, `kColumnKinds` kinds of columns (k; for DPLR also b), keys of `kWidth`
/// channels. Offsets in bytes. "Solve" and "query" rows and "columns" are defined in chunk.cuh.
template <size_t kElement, int kColumnKinds, int kWidth, TileOrder kOrder = TileOrder::rows>
struct ChunkLayout {
  static constexpr int kColumns = kColumnKinds;
  using Tiles = TileLayout<kWidth, kOrder>;
  static constexpr bool kCoreMatrices = Tiles::kCoreMatrices;
  static constexpr int kStride = kWidth + kRowPaddingOf16;  ///< row stride of keys, in elements

  // A stage: the data of one chunk that producer warps write and consumer warps read.
  static constexpr size_t kTile = kElement * Tiles::kTileOfTokens;
  static constexpr size_t kRows = 0;                            ///< decayed rows of 16 tokens: solve, query
  static constexpr size_t kEnds = kRows + 2 * kTile;            ///< columns decayed to the chunk's end, of each kind
  static constexpr size_t kInverse = kEnds + kColumns * kTile;  ///< 16 x 16
  static constexpr size_t kSmall = kElement * kChunk * kSmallStride;
  static constexpr size_t kPairs = kInverse + kSmall;                     ///< query rows with each column kind
  static constexpr size_t kDecay = kPairs + kColumns * kSmall;            ///< float [kWidth]
  static constexpr size_t kSolvePairs = kDecay + sizeof(float) * kWidth;  ///< solve rows with each column kind
  static constexpr size_t kWholeStage = aligned(kSolvePairs + kColumns * kSmall);
  /// Without DPLR only the gradients need the solve pairs.
  static constexpr size_t kStage = kColumns == 2 ? kWholeStage : aligned(kSolvePairs);

  // Producer warps work in groups; each thread owns two channels. Registers suffice for eight producer warps at
  // K = 128, except for DPLR.
  static constexpr bool kMany = kColumnKinds == 1 && kWidth == 128;
  static constexpr int kProducerWarps = kMany ? 8 : 4;
  static constexpr int kGroupThreads = kWidth / 2;
  static constexpr int kGroupWarps = kGroupThreads / 32;

  // A group's scratch: a chunk's inputs and the intermediate results that its threads exchange.
  static constexpr int kKinds = kColumns == 2 ? 4 : 2;  ///< q, k; for DPLR also a, b
  static constexpr size_t kInputs = 0;                  ///< [kind, 16][kStride] operands
  static constexpr size_t kInput = kElement * kChunk * kStride;
  static constexpr size_t kGates = kInputs + kKinds * kInput;                    ///< [16][kWidth] g in its input dtype
  static constexpr size_t kPairSums = kGates + sizeof(float) * kChunk * kWidth;  ///< float [kind, column, 16][stride]
  static constexpr size_t kNumbers = kPairSums + sizeof(float) * 2 * kColumns * kChunk * kPairStride;
  static constexpr int kNumberKinds = 4;  ///< per token: factors of q and of k, beta, the decay of a head
  static constexpr size_t kLevels0 = aligned(kNumbers + sizeof(float) * kNumberKinds * kChunk);
  static constexpr int kLevelRows = kChunk + kColumns * kChunk / 2;  ///< 8 solve, 8 query and 8 k rows, DPLR: 8 b rows
  static constexpr size_t kLevel = kElement * kLevelRows * kStride;
  static constexpr size_t scratch(int levels) { return aligned(kLevels0 + static_cast<size_t>(levels) * kLevel); }
  /// Buffers of v of the consumer warps: two chunks of kSlice columns each.
  static constexpr size_t kValues = kElement * kMostConsumers * 2 * kChunk * kSlice;
  static constexpr size_t total(int groups, int levels) {
    return kValues + static_cast<size_t>(groups) * (kStage + scratch(levels));
  }

  /// Each group fills its own stage. A launch has as many groups as fit in the device's shared memory, at most these:
  static constexpr int kGroups =
      kProducerWarps / kGroupWarps < kMostGroups ? kProducerWarps / kGroupWarps : kMostGroups;
  static constexpr int kLevelsAtOnce = kCoreMatrices && total(kGroups, 2) <= kSharedOfHopper ? 2 : 1;
  static constexpr size_t kScratch = scratch(kLevelsAtOnce);
  static constexpr size_t shared(int groups) { return total(groups, kLevelsAtOnce); }
  static constexpr int groups_in(size_t bytes) {
    int groups = kGroups;
    while (groups > 1 && shared(groups) > bytes) --groups;
    return groups;
  }
  static_assert(kStride * kElement % 16 == 0, "rows of matrices are loaded 16 bytes at a time");
  static_assert(kEnds % 16 == 0 && kInverse % 16 == 0 && kPairs % 16 == 0 && kDecay % 16 == 0);
  static_assert(kSolvePairs % 16 == 0 && kPairSums % 16 == 0 && kNumbers % 16 == 0);
};

// --- Halving a chunk ---
//
// Every pair of a token i and an earlier token j belongs to exactly one level: that of the highest bit in which i and j
// differ, half = 1, 2, 4 or 8. There i is in the upper half and j in the lower half of the same block of 2 * half
// tokens. At every level eight tokens of a chunk are upper and eight are lower.

constexpr int upper_token(int half, int index) { return index / half * 2 * half + half + index % half; }
constexpr int lower_token(int half, int index) { return index / half * 2 * half + index % half; }
constexpr bool same_block(int half, int upper_index, int lower_index) {
  return upper_index / half == lower_index / half;
}

}  // namespace klab::kernels::cuda
