// SPDX-License-Identifier: Apache-2.0
// A chunk of the forward pass with wgmma (sm_90a): four consumer warps form a warpgroup with 64 columns of V. Registers
// are used as in Forward::chunk(): a warp's state is its 16 rows of the warpgroup's left operand. wgmma reads rows,
// ends and pairs from shared memory, as core matrices.
#pragma once

#include "kernels/recurrence/cuda/pipeline.cuh"

namespace klab::kernels::cuda {

template <class Format>
struct WarpgroupOperand : HalfOperand<Format> {
  static constexpr TileOrder kOrder = TileOrder::core_matrices;
};

template <class Operand, bool kDplr, int kWidth>
struct WarpgroupChunk : Pipeline<Operand, kDplr, kWidth> {
  using Base = Pipeline<Operand, kDplr, kWidth>;
  using Base::kTiles;
  using typename Base::Element, typename Base::Left, typename Base::StageOf;
  using Tiles = typename Base::Layout::Tiles;
  static constexpr bool kBfloat16 = Operand::kDtype == Dtype::bfloat16;
  static constexpr int kBytes = sizeof(Element);

  using Layout = typename Base::Layout;

  static __device__ SharedMatrix in(const StageOf& stage, size_t offset, int leading, int stride) {
    return {stage.base, static_cast<int>(offset), leading * kBytes, stride * kBytes};
  }
  // Solve rows and then query rows, which are adjacent in memory: 32 rows, 16 channels from `channel`.
  static __device__ SharedMatrix rows(const StageOf& stage, int channel) {
    return in(stage, Layout::kRows + Tiles::offset(0, channel) * kBytes, Tiles::kChannelStep, Tiles::kTokenStep);
  }
  static __device__ SharedMatrix ends(const StageOf& stage, int column) {
    return in(stage, Layout::kEnds + column * Layout::kTile, Tiles::kTokenStep, Tiles::kChannelStep);
  }
  // The 16 x 16 matrix at a byte of the stage.
  static __device__ SharedMatrix small(const StageOf& stage, size_t offset) {
    return in(stage, offset, 64, Tiles::kSmallTokenStep);
  }

  // to = x by
  template <int kCount>
  static __device__ void multiply(Tile (&to)[kCount], const Left& x, const SharedMatrix& by) {
    multiply_warpgroup<kBfloat16, false, true>(to, x.r, by);
  }
  // to += x by
  template <bool kAcross = false, int kCount>
  static __device__ void multiply_add(Tile (&to)[kCount], const Left& x, const SharedMatrix& by) {
    multiply_warpgroup<kBfloat16, kAcross>(to, x.r, by);
  }

  template <int kCount>
  static __device__ void finish(Tile (&sums)[kCount]) {
    warpgroup_commit();
    warpgroup_wait<0>();
    warpgroup_done(sums);
  }

  // u or z: x times the 16 x 16 inverse.
  static __device__ Left solved(const StageOf& stage, const Left& x) {
    Tile u[2];
    warpgroup_begin();
    multiply(u, x, small(stage, Layout::kInverse));
    finish(u);
    return Base::left(u);
  }

  static __device__ void run(bool solves, const StageOf& stage, const Tile (&v)[2], Tile (&state)[kTiles],
                             Tile (&o)[2]) {
    Left s[kTiles / 2];
#pragma unroll
    for (int n = 0; n < kTiles / 2; ++n) s[n] = Operand::left(state[2 * n], state[2 * n + 1]);
    // Of the solve rows, of the query rows. No part of these registers may be the accumulator of a later product: the
    // compiler would serialise all products.
    Tile reads[4];
    warpgroup_begin();
    multiply(reads, s[0], rows(stage, 0));
#pragma unroll
    for (int n = 1; n < kTiles / 2; ++n) multiply_add(reads, s[n], rows(stage, 16 * n));
    finish(reads);
    // Not before the wait, although the products read copies of the state: these registers are also wgmma accumulators,
    // so the compiler would insert waits and serialise the products.
    Base::decay_state(state, stage.decay());

    Left written = Base::left(v), corrected = {};
    Tile solve[2], through[2];  // through: o from this chunk's columns
    if (kDplr) {
      warpgroup_begin();
      multiply(solve, written, small(stage, Layout::kSolvePairs));
      finish(solve);
      Base::add({reads[0], reads[1]}, solve);
      corrected = solved(stage, Base::left(solve));
    } else if (solves) {
      Base::subtract(v, {reads[0], reads[1]}, solve);
      written = solved(stage, Base::left(solve));
    }
    warpgroup_begin();
    multiply(through, written, small(stage, Layout::kPairs));
    if (kDplr) multiply_add(through, corrected, small(stage, Layout::kPairs + Layout::kSmall));
    multiply_add<true>(state, written, ends(stage, 0));
    if (kDplr) multiply_add<true>(state, corrected, ends(stage, 1));
    finish(state);
    warpgroup_done(through);
    o[0] = reads[2];
    o[1] = reads[3];
    Base::add(through, o);
  }
};

}  // namespace klab::kernels::cuda
