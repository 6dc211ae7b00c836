// SPDX-License-Identifier: Apache-2.0
#include "wgmma_check.h"

#include "kernels/common/cuda/operand.cuh"
#include "kernels/common/cuda/platform.cuh"
#include "kernels/recurrence/cuda/chunk_layout.h"

namespace klab {
namespace {

using namespace kernels::cuda;

constexpr int kThreads = 128;  // a warpgroup
constexpr int kDepth = 16;     // of one instruction
constexpr int kBytes = sizeof(uint16_t);
constexpr int kShared = 48 * 1024;  // b takes at most 9 KB; what else a wrong descriptor reads is padding

// A layout of b has: its shape; kPitch, as in WgmmaProduct; offset(k, n), where an element is stored; and operand(),
// the 16 rows of b from `k`, in the way of WarpgroupChunk.

// Key rows, [n][k] with k a channel: n is a token of 16 or 32.
template <int kWidth, int kTokens>
struct RowsOfKeys {
  using Tiles = TileLayout<kWidth, TileOrder::core_matrices>;
  static constexpr bool kAcross = false;
  static constexpr int kRows = kWidth, kColumns = kTokens;
  static constexpr int kPitch = Tiles::kChannelStep * kBytes;
  static __device__ int offset(int k, int n) { return Tiles::offset(n, k); }
  static __device__ SharedMatrix operand(const uint16_t* b, int k, int pitch) {
    return {b, Tiles::offset(0, k) * kBytes, pitch, Tiles::kTokenStep * kBytes};
  }
};

// Columns at a chunk's end, [k][n] with k a token and n a channel.
template <int kWidth>
struct ColumnsOfKeys {
  using Tiles = TileLayout<kWidth, TileOrder::core_matrices>;
  static constexpr bool kAcross = true;
  static constexpr int kRows = kDepth, kColumns = kWidth;
  static constexpr int kPitch = Tiles::kChannelStep * kBytes;
  static __device__ int offset(int k, int n) { return Tiles::offset(k, n); }
  static __device__ SharedMatrix operand(const uint16_t* b, int, int pitch) {
    return {b, 0, Tiles::kTokenStep * kBytes, pitch};
  }
};

// A 16 x 16 matrix of a chunk, without padding, [n][k].
struct SmallMatrix {
  using Tiles = TileLayout<64, TileOrder::core_matrices>;
  static constexpr bool kAcross = false;
  static constexpr int kRows = kDepth, kColumns = 16;
  static constexpr int kPitch = 64 * kBytes;
  static __device__ int offset(int k, int n) { return Tiles::small_offset(n, k); }
  static __device__ SharedMatrix operand(const uint16_t* b, int, int pitch) {
    return {b, 0, pitch, Tiles::kSmallTokenStep * kBytes};
  }
};

// Where element r of this thread's tile `tile` is in a row-major matrix.
__device__ int place(int tile, int r, int columns) {
  const int row = static_cast<int>(threadIdx.x) / kWarp * 16 + lane() / 4 + r / 2 * 8;
  return row * columns + tile * 8 + lane() % 4 * 2 + r % 2;
}

template <int kTiles>
__device__ void load(Tile (&to)[kTiles], const float* from) {
  for (int n = 0; n < kTiles; ++n) {
    for (int r = 0; r < 4; ++r) to[n].c[r] = from[place(n, r, kTiles * 8)];
  }
}

template <class Operand, class Layout>
__device__ void store_right(uint16_t* to, const float* from, float padding) {
  const int first = static_cast<int>(threadIdx.x);
  for (int i = first; i < kShared / kBytes; i += kThreads) to[i] = Operand::round(padding);
  block_barrier();
  for (int i = first; i < Layout::kRows * Layout::kColumns; i += kThreads) {
    to[Layout::offset(i / Layout::kColumns, i % Layout::kColumns)] = Operand::round(from[i]);
  }
}

template <class Format, class Layout>
__global__ void __launch_bounds__(kThreads) wgmma_kernel(const WgmmaOperands x) {
  using Operand = HalfOperand<Format>;
  constexpr int kTiles = Layout::kColumns / 8, kSteps = Layout::kRows / kDepth;
  uint16_t* b = reinterpret_cast<uint16_t*>(shared_memory());
  store_right<Operand, Layout>(b, x.b, x.padding);
  publish_to_warpgroups();
  block_barrier();

  Tile a[2 * kSteps], c[kTiles];
  load(a, x.a);
  load(c, x.c);
  typename Operand::Left left[kSteps];
  for (int s = 0; s < kSteps; ++s) left[s] = Operand::left(a[2 * s], a[2 * s + 1]);
  warpgroup_begin();
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    multiply_warpgroup<Format::kDtype == kernels::Dtype::bfloat16, Layout::kAcross>(
        c, left[s].r, Layout::operand(b, s * kDepth, x.pitch));
  }
  warpgroup_commit();
  warpgroup_wait<0>();
  warpgroup_done(c);
  for (int n = 0; n < kTiles; ++n) {
    for (int r = 0; r < 4; ++r) x.c[place(n, r, Layout::kColumns)] = c[n].c[r];
  }
}

template <class Format, class Layout>
void run(const WgmmaOperands& operands) {
  launch(wgmma_kernel<Format, Layout>, dim3(1), kThreads, kShared, Stream{}, operands);
}

template <class Layout>
void add(std::vector<WgmmaProduct>& to) {
  to.push_back({true, Layout::kAcross, Layout::kColumns, Layout::kRows, Layout::kPitch, run<Bfloat16, Layout>});
  to.push_back({false, Layout::kAcross, Layout::kColumns, Layout::kRows, Layout::kPitch, run<Float16, Layout>});
}

}  // namespace

std::vector<WgmmaProduct> wgmma_products() {
  std::vector<WgmmaProduct> products;
  add<SmallMatrix>(products);
  add<RowsOfKeys<64, 16>>(products);
  add<RowsOfKeys<64, 32>>(products);
  add<RowsOfKeys<128, 32>>(products);
  add<ColumnsOfKeys<64>>(products);
  add<ColumnsOfKeys<128>>(products);
  return products;
}

bool has_wgmma() { return has_warpgroups(); }

}  // namespace klab
