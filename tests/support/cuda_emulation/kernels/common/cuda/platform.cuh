// SPDX-License-Identifier: Apache-2.0
// Replaces kernels/common/cuda/platform.cuh on the include path of the emulated build: the same functions on the host.
// Matrix products accumulate in float, as the tensor cores do, and read exactly the elements that the instructions
// read.
#pragma once

#include <math.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulation.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define threadIdx (::klab::kernels::cuda::emulated_thread())
#define blockIdx (::klab::emulation::block_index())
#define gridDim (::klab::emulation::grid_size())
#define blockDim (::klab::kernels::cuda::emulated_block())

namespace klab::kernels::cuda {

inline emulation::Index emulated_thread() { return {emulation::thread_index(), 0, 0}; }
inline emulation::Index emulated_block() { return {emulation::thread_count(), 1, 1}; }

inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

inline void block_barrier() { emulation::synchronise(0, emulation::thread_count()); }
inline void barrier_wait(int number, int threads) { emulation::synchronise(number, static_cast<unsigned>(threads)); }
inline int opaque(int x) { return x; }
inline unsigned char* shared_memory() { return static_cast<unsigned char*>(emulation::shared_memory()); }

// --- Collectives -----------------------------------------------------------------------------------------------------

template <class In, class Out>
Out collective(const char* name, const In& in,
               void (*combine)(const In (&)[emulation::kLanes], Out (&)[emulation::kLanes])) {
  static_assert(sizeof(In) <= emulation::kMostBytes && sizeof(Out) <= emulation::kMostBytes);
  static void (*now)(const In(&)[emulation::kLanes], Out(&)[emulation::kLanes]);
  now = combine;  // the same for all lanes
  const void* out = emulation::meet(name, &in, sizeof(In), [](const unsigned char* from, unsigned char* to) {
    In lanes_in[emulation::kLanes];
    Out lanes_out[emulation::kLanes];
    for (int l = 0; l < emulation::kLanes; ++l) {
      std::memcpy(static_cast<void*>(&lanes_in[l]), from + static_cast<size_t>(l) * emulation::kMostBytes, sizeof(In));
    }
    now(lanes_in, lanes_out);
    for (int l = 0; l < emulation::kLanes; ++l) {
      std::memcpy(to + static_cast<size_t>(l) * emulation::kMostBytes, &lanes_out[l], sizeof(Out));
    }
  });
  Out result;
  std::memcpy(static_cast<void*>(&result), out, sizeof(Out));
  return result;
}

inline void warp_barrier() {
  if (emulation::ignores_warp_barriers()) return;
  collective<char, char>("__syncwarp", 0, [](const char(&)[32], char(&out)[32]) { std::memset(out, 0, 32); });
}

// The lanes of a warp arrive together, as with the instruction.
inline void barrier_arrive(int number, int threads) {
  warp_barrier();
  emulation::arrive(number, static_cast<unsigned>(threads));
}

struct Shuffled {
  float x;
  int from;
};
inline float exchange(const char* name, float x, int from) {
  return collective<Shuffled, float>(name, {x, from}, [](const Shuffled(&in)[32], float(&out)[32]) {
    for (int l = 0; l < 32; ++l) out[l] = in[in[l].from].x;
  });
}
inline float shuffle_xor(float x, int mask) {
  return exchange("__shfl_xor_sync", x, static_cast<int>(threadIdx.x % 32) ^ mask);
}
inline float shuffle(float x, int lane) { return exchange("__shfl_sync", x, lane); }

// --- Numbers ---------------------------------------------------------------------------------------------------------

inline float as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t as_bits(float x) { return std::bit_cast<uint32_t>(x); }

// Rounds to `kept` mantissa bits, to nearest, ties to even.
inline uint32_t round_bits(float x, int kept) {
  const uint32_t bits = as_bits(x);
  const int dropped = 23 - kept;
  const uint32_t odd = (bits >> dropped) & 1;
  return (bits + (uint32_t{1} << (dropped - 1)) - 1 + odd) & ~((uint32_t{1} << dropped) - 1);
}
inline uint16_t bfloat16_bits(float x) {
  if (std::isnan(x)) return 0x7fff;
  return static_cast<uint16_t>(round_bits(x, 7) >> 16);
}
inline uint16_t float16_bits(float x) { return std::bit_cast<uint16_t>(static_cast<_Float16>(x)); }
inline float float16_to_float(uint16_t bits) { return static_cast<float>(std::bit_cast<_Float16>(bits)); }
inline uint32_t pack_bfloat16(float low, float high) {
  return bfloat16_bits(low) | static_cast<uint32_t>(bfloat16_bits(high)) << 16;
}
inline uint32_t pack_float16(float low, float high) {
  return float16_bits(low) | static_cast<uint32_t>(float16_bits(high)) << 16;
}
inline float approximate_exp2(float x) { return std::exp2(x); }
// To nearest, ties away from zero.
inline float round_to_tf32(float x) {
  if (!std::isfinite(x)) return x;
  return as_float((as_bits(x) + (1u << 12)) & ~((1u << 13) - 1));
}

// --- Matrix fragments ---

struct Fragment {
  uint32_t r[4];
};
using Row = const void*;

template <bool kTransposed>
void load_matrices_of(const Row (&rows)[32], Fragment (&out)[32]) {
  for (int m = 0; m < 4; ++m) {
    uint16_t x[8][8];
    for (int r = 0; r < 8; ++r) std::memcpy(x[r], rows[m * 8 + r], 16);
    for (int l = 0; l < 32; ++l) {
      const int g = l / 4, t = l % 4;
      const uint32_t low = kTransposed ? x[2 * t][g] : x[g][2 * t],
                     high = kTransposed ? x[2 * t + 1][g] : x[g][2 * t + 1];
      out[l].r[m] = low | high << 16;
    }
  }
}
inline void load_matrices(uint32_t (&r)[4], const void* row) {
  const Fragment got = collective<Row, Fragment>("ldmatrix", row, load_matrices_of<false>);
  std::memcpy(r, got.r, sizeof r);
}
inline void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  const Fragment got = collective<Row, Fragment>("ldmatrix.trans", row, load_matrices_of<true>);
  std::memcpy(r, got.r, sizeof r);
}
inline uint32_t transpose_matrix(uint32_t x) {
  return collective<uint32_t, uint32_t>("movmatrix", x, [](const uint32_t(&in)[32], uint32_t(&out)[32]) {
    uint16_t m[8][8];
    for (int l = 0; l < 32; ++l) std::memcpy(&m[l / 4][2 * (l % 4)], &in[l], 4);
    for (int l = 0; l < 32; ++l) {
      const int g = l / 4, t = l % 4;
      out[l] = m[2 * t][g] | static_cast<uint32_t>(m[2 * t + 1][g]) << 16;
    }
  });
}

struct Product {
  float c[4];
  uint32_t a[4], b[2];
};
struct Sums {
  float c[4];
};

// c += a b, 16 x 8 += 16 x 16 times 16 x 8; `wide` converts 16 bits to float.
template <float (*wide)(uint16_t)>
void multiply_of(const Product (&in)[32], Sums (&out)[32]) {
  float a[16][16], b[16][8], c[16][8];
  const auto half = [](uint32_t x, int i) { return wide(static_cast<uint16_t>(x >> (16 * i))); };
  for (int l = 0; l < 32; ++l) {
    const int g = l / 4, t = l % 4;
    for (int i = 0; i < 2; ++i) {
      for (int r = 0; r < 4; ++r) a[g + 8 * (r % 2)][2 * t + i + 8 * (r / 2)] = half(in[l].a[r], i);
      for (int r = 0; r < 2; ++r) b[2 * t + i + 8 * r][g] = half(in[l].b[r], i);
      for (int r = 0; r < 2; ++r) c[g + 8 * r][2 * t + i] = in[l].c[2 * r + i];
    }
  }
  for (int m = 0; m < 16; ++m) {
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 8; ++n) c[m][n] += a[m][k] * b[k][n];
    }
  }
  for (int l = 0; l < 32; ++l) {
    const int g = l / 4, t = l % 4;
    for (int r = 0; r < 4; ++r) out[l].c[r] = c[g + 8 * (r / 2)][2 * t + r % 2];
  }
}
inline float bfloat16_to_float(uint16_t bits) { return as_float(static_cast<uint32_t>(bits) << 16); }

template <class A, class B>
void multiply(const char* name, float (&c)[4], const A (&a)[4], const B (&b)[2],
              void (*combine)(const Product (&)[32], Sums (&)[32])) {
  Product in;
  std::memcpy(in.c, c, sizeof c);
  std::memcpy(in.a, a, sizeof a);
  std::memcpy(in.b, b, sizeof b);
  const Sums out = collective<Product, Sums>(name, in, combine);
  std::memcpy(c, out.c, sizeof c);
}
inline void multiply_bfloat16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  multiply("mma.bf16", c, a, b, multiply_of<bfloat16_to_float>);
}
inline void multiply_float16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  multiply("mma.f16", c, a, b, multiply_of<float16_to_float>);
}

// The hardware reads only the upper 19 bits.
inline float tf32(uint32_t bits) { return as_float(bits & ~((1u << 13) - 1)); }

inline void multiply_tf32(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
  multiply("mma.tf32", c, a, b, [](const Product(&in)[32], Sums(&out)[32]) {
    float x[16][8], y[8][8], z[16][8];
    for (int l = 0; l < 32; ++l) {
      const int g = l / 4, t = l % 4;
      for (int r = 0; r < 4; ++r) x[g + 8 * (r % 2)][t + 4 * (r / 2)] = tf32(in[l].a[r]);
      for (int r = 0; r < 2; ++r) y[t + 4 * r][g] = tf32(in[l].b[r]);
      for (int r = 0; r < 4; ++r) z[g + 8 * (r / 2)][2 * t + r % 2] = in[l].c[r];
    }
    for (int m = 0; m < 16; ++m) {
      for (int k = 0; k < 8; ++k) {
        for (int n = 0; n < 8; ++n) z[m][n] += x[m][k] * y[k][n];
      }
    }
    for (int l = 0; l < 32; ++l) {
      for (int r = 0; r < 4; ++r) out[l].c[r] = z[l / 4 + 8 * (r / 2)][2 * (l % 4) + r % 2];
    }
  });
}

// --- Products of warpgroups ------------------------------------------------------------------------------------

struct SharedMatrix {
  const void* base;
  int offset, leading, stride;
};

inline void publish_to_warpgroups() {}
inline void warpgroup_begin() {}
inline void warpgroup_commit() {}
template <int kPending>
void warpgroup_wait() {}
template <class Tile, int kTiles>
void warpgroup_done(Tile (&)[kTiles]) {}

// Two adjacent elements along k of column n, in the canonical layouts without swizzling.
template <bool kAcross>
uint32_t two_of(const SharedMatrix& m, int k, int n) {
  const auto element = [&](int at) {
    const int offset = kAcross ? n % 8 * 2 + n / 8 * m.stride + at % 8 * 16 + at / 8 * m.leading
                               : n % 8 * 16 + n / 8 * m.stride + at % 8 * 2 + at / 8 * m.leading;
    uint16_t bits;
    std::memcpy(&bits, static_cast<const unsigned char*>(m.base) + m.offset + offset, sizeof bits);
    return static_cast<uint32_t>(bits);
  };
  return element(k) | element(k + 1) << 16;
}

template <bool kBfloat16, bool kAcross, bool kFresh = false, int kTiles, class Tile>
void multiply_warpgroup(Tile (&c)[kTiles], const uint32_t (&a)[4], const SharedMatrix& b) {
  emulation::count_warpgroup_product();
  const int g = static_cast<int>(threadIdx.x % 32) / 4, t = static_cast<int>(threadIdx.x % 32) % 4;
  for (int n = 0; n < kTiles; ++n) {
    if (kFresh) c[n] = {};
    const uint32_t right[2] = {two_of<kAcross>(b, 2 * t, n * 8 + g), two_of<kAcross>(b, 2 * t + 8, n * 8 + g)};
    if (kBfloat16) {
      multiply_bfloat16(c[n].c, a, right);
    } else {
      multiply_float16(c[n].c, a, right);
    }
  }
}

// --- Loads ---

inline uint32_t load_now(const void* from, bool wide) {
  return wide ? *static_cast<const uint32_t*>(from) : *static_cast<const uint16_t*>(from);
}

// --- Asynchronous copies ---

inline void copy_async(void* to_shared, const void* from_global, bool inside = true) {
  static const unsigned char zeros[16] = {};
  emulation::copy_async(to_shared, inside ? from_global : zeros, 16);
}
inline void copies_commit() { emulation::commit_copies(); }
template <int kPending>
void copies_wait() {
  emulation::wait_for_copies(kPending);
}

// --- Launches ---

using Stream = void*;

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes, Stream,
            const Arguments&... arguments) {
  emulation::run_grid({grid.x, grid.y, grid.z}, static_cast<unsigned>(threads), shared_bytes,
                      [&] { kernel(Parameters(arguments)...); });
}

template <class... Parameters>
bool has_code(void (*)(Parameters...)) {
  return true;
}

inline bool has_warpgroups() { return true; }

inline size_t shared_memory_limit() { return emulation::shared_memory_limit(); }

/// Few, so that small problems are split into parts like large ones on a GPU.
inline int multiprocessors() { return 4; }

}  // namespace klab::kernels::cuda
