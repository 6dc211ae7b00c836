// Where the parts of a chunk lie in shared memory. All of it is known when the kernels are compiled, and tested on the
// host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/recurrence/cuda/recurrence.h"

namespace klab::kernels::cuda {

constexpr int kRowPaddingOf16 = 8;
constexpr int kSmallStride = kChunk + 8;  ///< of the 16 x 16 matrices, in elements
constexpr int kPairStride = kChunk + 1;   ///< of the same in float
constexpr int kLevels = 4;                ///< 16 tokens are halved four times
constexpr int kMostGroups = 4;            ///< of producers: there are barriers for no more
constexpr size_t kSharedOfAmpere = 160 * 1024,
                 kSharedOfHopper = 227 * 1024;  ///< of a block; sm_80 has 163 KiB, sm_90 has 227

constexpr size_t aligned(size_t bytes) { return (bytes + 127) / 128 * 128; }

/// How rows of keys and the 16 x 16 matrices lie in a stage: row after row, padded, or, for wgmma, as core matrices of
/// 8 tokens x 8 channels, 128 bytes each, tokens 16 bytes apart. Those serve both ways: as [token][channel] they are
/// rows of a right operand along its k, as [channel][token] across it. Core matrices that are neighbours in channels
/// lie 16 bytes further apart than they are long, so that the lanes that write them meet different banks.
template <int kWidth, bool kCoreMatrices>
struct TileLayout {
  static constexpr int kStride = kWidth + kRowPaddingOf16;                             ///< of padded rows, in elements
  static constexpr int kChannelStep = 64 + 8, kTokenStep = kWidth / 8 * kChannelStep;  ///< between core matrices
  static constexpr int kSmallTokenStep = 2 * 64;

  static constexpr int offset(int token, int channel) {
    if (!kCoreMatrices) return token * kStride + channel;
    return token / 8 * kTokenStep + channel / 8 * kChannelStep + token % 8 * 8 + channel % 8;
  }
  static constexpr int small_offset(int i, int j) {
    if (!kCoreMatrices) return i * kSmallStride + j;
    return i / 8 * kSmallTokenStep + j / 8 * 64 + i % 8 * 8 + j % 8;
  }
  static constexpr int kTileOfTokens = kCoreMatrices ? 2 * kTokenStep : kChunk * kStride;  ///< elements of 16 tokens
};

/// `kElement` bytes per operand, `kColumnKinds` kinds of columns (k; of DPLR also b), keys of `kWidth` channels.
template <size_t kElement, int kColumnKinds, int kWidth, bool kCoreMatrices = false>
struct ChunkLayout {
  static constexpr int kColumns = kColumnKinds;
  using Tiles = TileLayout<kWidth, kCoreMatrices>;
  static constexpr int kStride = kWidth + kRowPaddingOf16;  ///< of rows of keys, in elements

  // A stage: what the consumers of a chunk read.
  static constexpr size_t kTile = Tiles::kTileOfTokens * kElement;
  static constexpr size_t kRows = 0;                            ///< rows of 16 tokens: solve, query
  static constexpr size_t kEnds = kRows + 2 * kTile;            ///< of each column kind
  static constexpr size_t kInverse = kEnds + kColumns * kTile;  ///< 16 x 16
  static constexpr size_t kSmall = kChunk * kSmallStride * kElement;
  static constexpr size_t kPairs = kInverse + kSmall;  ///< query with each column kind, then solve with each
  static constexpr size_t kDecay = kPairs + 2 * kColumns * kSmall;  ///< float [kWidth]
  static constexpr size_t kStage = aligned(kDecay + kWidth * sizeof(float));

  // Producers work in groups; a thread has two channels. Hopper's products leave registers and shared memory for twice
  // as many of them, but for DPLR.
  static constexpr bool kMany = kCoreMatrices && kColumnKinds == 1 && kWidth == 128;
  static constexpr int kProducerWarps = kMany ? 8 : 4;
  static constexpr size_t kMostShared = kMany ? kSharedOfHopper : kSharedOfAmpere;
  static constexpr int kGroupThreads = kWidth / 2;
  static constexpr int kGroupWarps = kGroupThreads / 32;

  // A group's scratch: a chunk's inputs, and what its threads pass among themselves while they prepare it.
  static constexpr int kKinds = kColumns == 2 ? 4 : 2;  ///< q, k; of DPLR also a, b
  static constexpr size_t kInputs = 0;                  ///< [kind, 16][kWidth] operands
  static constexpr size_t kInput = static_cast<size_t>(kChunk) * kWidth * kElement;
  static constexpr size_t kGates = kInputs + kKinds * kInput;  ///< [16][kWidth] as given as g
  /// float [16][kWidth], exp(g); in the place of g where that is known to be float too.
  static constexpr size_t kDecays = kElement == sizeof(float) ? kGates : kGates + kChunk * kWidth * sizeof(float);
  static constexpr size_t kPairSums = kDecays + kChunk * kWidth * sizeof(float);  ///< float [kind, column, 16][17]
  static constexpr size_t kNumbers = kPairSums + 2 * kColumns * kChunk * kPairStride * sizeof(float);
  static constexpr size_t kTransfers = kNumbers + (kGroupWarps * 64 + 3 * kChunk) * sizeof(float);  ///< of bulk copies
  static constexpr size_t kLevels0 = aligned(kTransfers + sizeof(uint64_t));
  static constexpr int kLevelRows = 2 * kChunk;  ///< solve 8, query 8, k 8, and b 8 of DPLR
  static constexpr size_t kLevel = kLevelRows * kStride * kElement;
  static constexpr size_t scratch(int levels) { return aligned(kLevels0 + static_cast<size_t>(levels) * kLevel); }
  static constexpr size_t total(int groups, int levels) {
    return static_cast<size_t>(groups) * (kStage + scratch(levels));
  }
  static constexpr bool fits(int groups, int levels) { return total(groups, levels) <= kMostShared; }

  /// Each group fills a stage of its own. As many groups, then as many levels at once, as there is room for.
  static constexpr int kWanted =
      kProducerWarps / kGroupWarps < kMostGroups ? kProducerWarps / kGroupWarps : kMostGroups;
  static constexpr int kGroups = fits(kWanted, 1) ? kWanted : fits(kWanted / 2, 1) ? kWanted / 2 : 1;
  static constexpr int kLevelsAtOnce = fits(kGroups, 4) ? 4 : fits(kGroups, 2) ? 2 : 1;
  static constexpr size_t kScratch = scratch(kLevelsAtOnce);
  static constexpr size_t kTotal = total(kGroups, kLevelsAtOnce);
  static_assert(kTotal <= kMostShared);
  static_assert(kStride * kElement % 16 == 0, "rows of matrices are loaded 16 bytes at a time");
  static_assert(kTransfers % sizeof(uint64_t) == 0);
  static_assert(kEnds % 16 == 0 && kInverse % 16 == 0 && kPairs % 16 == 0 && kDecay % 16 == 0);
};

// --- Halving a chunk ---
//
// Token i meets an earlier token j at one level only: that of the highest bit in which they differ, half = 1, 2, 4
// or 8. There i lies in the upper half and j in the lower half of one block of 2 half tokens. Eight tokens of a chunk
// are upper ones, eight are lower ones.

constexpr int upper_token(int half, int index) { return index / half * 2 * half + half + index % half; }
constexpr int lower_token(int half, int index) { return index / half * 2 * half + index % half; }
constexpr bool same_block(int half, int upper_index, int lower_index) {
  return upper_index / half == lower_index / half;
}

}  // namespace klab::kernels::cuda
