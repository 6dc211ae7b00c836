// SPDX-License-Identifier: Apache-2.0
// The shared memory layout of the gradient kernel. Offsets in bytes.
#pragma once

#include "kernels/recurrence/cuda/chunk_layout.h"

namespace klab::kernels::cuda {

constexpr int kGradientWarps = 4;

constexpr size_t larger(size_t x, size_t y) { return x > y ? x : y; }

template <size_t kElement, int kColumnKinds, int kWidth>
struct GradientLayout {
  using Chunk = ChunkLayout<kElement, kColumnKinds, kWidth>;
  static constexpr int kValueRows = kElement * kWidth <= 256 ? 64 : 32;  ///< columns of V per pass
  static constexpr int kTokenStride = kValueRows + kRowPaddingOf16;
  static constexpr int kLevelRows = 2 * kChunk;  ///< of a level; without DPLR eight rows of zeros follow those of k
  /// Row strides of floats [16][kWidth]: of a level's rows, and of the gradients by channel, which are written by lanes
  /// with adjacent channels and with channels that are eight apart. With them no banks conflict.
  static constexpr int kLevelStride = kWidth + 8, kSumStride = kWidth + 2;
  static constexpr size_t kFloatRows = sizeof(float) * kChunk * kLevelStride;

  /// A chunk's stage; later float [rows 16, columns 16][kLevelStride], the gradients of a level's rows and columns.
  static constexpr size_t kStage = 0;
  static constexpr size_t kScratch = aligned(larger(Chunk::kWholeStage, 2 * kFloatRows));
  /// S, then the gradient of the updated state, [kValueRows][stride]; later the gradients of rows and ends, float
  /// [rows and ends][16][kSumStride], overwritten by those of the inputs: a thread owns the same channels of both.
  static constexpr size_t kStates = kScratch + aligned(Chunk::kLevels0 + kElement * kLevelRows * Chunk::kStride);
  static constexpr size_t kState = kElement * kValueRows * Chunk::kStride;
  static constexpr int kSums = kColumnKinds == 2 ? 5 : 3;
  static constexpr size_t kTokens = kStates + aligned(larger(2 * kState, kSums* kFloatRows));
  static constexpr size_t kToken = kElement * kChunk * kTokenStride;  ///< [16][kTokenStride]: d_o, d_reads, values
  static constexpr size_t kValues = kTokens + aligned((2 + kColumnKinds) * kToken);  ///< v, [16][kTokenStride]
  static constexpr size_t kPairs = kValues + aligned(kToken);  ///< float [kind, column, 16][kPairStride]
  static constexpr size_t kLevelPairs =
      kPairs + aligned(sizeof(float) * 2 * kColumnKinds * kChunk * kPairStride);  ///< two matrices [16][kSmallStride]
  /// Float [part][kWidth], the decay's gradient from each part of the columns of V.
  static constexpr size_t kDecay = kLevelPairs + aligned(2 * Chunk::kSmall);
  static constexpr int kDecayParts = kGradientWarps * 32 / Chunk::kGroupThreads;
  static constexpr size_t kBeta = kDecay + sizeof(float) * kDecayParts * kWidth;       ///< float [warp, 16]
  static constexpr size_t kReduced = kBeta + sizeof(float) * kGradientWarps * kChunk;  ///< float [warp, 32]
  static constexpr size_t kTotal = aligned(kReduced + sizeof(float) * kGradientWarps * 32);
  static_assert(kTotal <= kSharedOfHopper);
};

}  // namespace klab::kernels::cuda
