// SPDX-License-Identifier: Apache-2.0
// Producer warps: from a chunk's inputs to the operand tiles of its matrix products.
//
// Rows read the state: `solve` rows (k of the delta rule, a of DPLR) to correct the value that is written, `query` rows
// (q) for the output. Columns write to the state: k with the written values, and for DPLR also b with the result of the
// read by a. `Ends` are columns decayed to the chunk's end, `pairs` are decayed products of rows with columns.
//
// With e_t = exp(g_t), token j contributes to a later token i with the decay prod of e over (j, i]. At the level of the
// two tokens (chunk_layout.h) it is the product over (j, m) times the product over [m, i], with m the middle of their
// block. Both are computed as products of factors in [0, 1]: nothing can overflow, g = -infinity gives an exact zero,
// and a token's result does not depend on later tokens. The tensor cores then sum over channels.
#pragma once

#include "kernels/common/cuda/activations.cuh"
#include "kernels/common/cuda/operand.cuh"
#include "kernels/recurrence/cuda/chunk_layout.h"

namespace klab::kernels::cuda {

constexpr float kL2Eps = 1e-6f;

// The position of a chunk's tokens in the batch.
struct Place {
  int64_t row, token;  // batch row, first token
  int count;           // tokens inside the sequence, up to kChunk
  int head;            // value head
};

__device__ __forceinline__ Place place_of(const SequenceSpan& span, int64_t first, int head) {
  const int64_t left = span.length - first;
  return {span.row, span.start + first, static_cast<int>(left < kChunk ? left : kChunk), head};
}

// --- Gates ---

struct GateParameters {
  float rate;  // exp(A_log)
  Two bias;    // dt_bias of this thread's channels
};

__device__ __forceinline__ GateParameters gate_parameters(const RecurrenceProblem& p, int head, int channel) {
  GateParameters gate{1.0f, {0.0f, 0.0f}};
  if (p.gate == Gate::log_decay) return gate;
  if (p.A_log != nullptr) gate.rate = expf(p.A_log[head]);
  if (p.dt_bias == nullptr) return gate;
  if (p.decay != Decay::channel) return {gate.rate, {p.dt_bias[head], p.dt_bias[head]}};
  const float* bias = p.dt_bias + static_cast<int64_t>(head) * p.K;
  if (channel < p.K) gate.bias.x = bias[channel];
  if (channel + 1 < p.K) gate.bias.y = bias[channel + 1];
  return gate;
}

__device__ __forceinline__ float log_decay(const RecurrenceProblem& p, float rate, float x) {
  return p.gate == Gate::softplus ? -rate * softplus(x) : p.lower_bound * sigmoid(rate * x);
}

// exp(g) from g or from the gate's raw input.
__device__ __forceinline__ Two decay_of(const RecurrenceProblem& p, const GateParameters& gate, Two g) {
  if (p.gate != Gate::log_decay) {
    g = {log_decay(p, gate.rate, g.x + gate.bias.x), log_decay(p, gate.rate, g.y + gate.bias.y)};
  }
  return {expf(g.x), expf(g.y)};
}

__device__ __forceinline__ float load_beta(const RecurrenceProblem& p, int64_t row, int64_t token, int head) {
  const float x = load_number(p.beta.data, p.beta.dtype, p.beta.offset(row, token, head));
  return p.beta_sigmoid ? p.beta_factor * sigmoid(x) : x;
}

// --- A thread's two channels of a chunk ---

template <class Operand, bool kDplr>
struct Channels {
  using Packed = typename Operand::Packed;
  static constexpr int kWide = kDplr ? kChunk : 1;
  Packed q[kChunk], k[kChunk];  // unscaled inputs
  Packed a[kWide], b[kWide];    // DPLR only
  Two e[kChunk];                // exp(g)
};

__device__ __forceinline__ Two operator*(Two x, Two y) { return {x.x * y.x, x.y * y.y}; }
__device__ __forceinline__ Two operator*(Two x, float y) { return {x.x * y, x.y * y}; }
__device__ __forceinline__ Two operator+(Two x, Two y) { return {x.x + y.x, x.y + y.y}; }

template <class Operand>
__device__ __forceinline__ typename Operand::Packed pack(Two x) {
  return Operand::pack(x.x, x.y);
}

// --- A group's scratch ---

template <class Operand, bool kDplr, int kWidth>
struct Scratch {
  static constexpr int kColumns = kDplr ? 2 : 1;
  using Layout = ChunkLayout<sizeof(typename Operand::Element), kColumns, kWidth, Operand::kCoreMatrices>;
  using Element = typename Operand::Element;
  unsigned char* base;

  // Inputs of a kind: 0 q, 1 k, 2 a, 3 b.
  __device__ Element* input(int kind) const {
    return reinterpret_cast<Element*>(base + Layout::kInputs + kind * Layout::kInput);
  }
  __device__ void* gates() const { return base + Layout::kGates; }
  __device__ float* decays() const { return reinterpret_cast<float*>(base + Layout::kDecays); }
  __device__ Element* level(int slot) const {
    return reinterpret_cast<Element*>(base + Layout::kLevels0 + slot * Layout::kLevel);
  }
  // Raw products of row i of a kind (0 solve, 1 query) with column j, [kind][column][i][j].
  __device__ float& pair(int kind, int column, int i, int j) const {
    return reinterpret_cast<float*>(base +
                                    Layout::kPairSums)[((kind * kColumns + column) * kChunk + i) * kPairStride + j];
  }
  __device__ float* numbers() const { return reinterpret_cast<float*>(base + Layout::kNumbers); }
  __device__ float* sums(int warp) const { return numbers() + warp * 64; }
  __device__ float* q_factor() const { return numbers() + Layout::kGroupWarps * 64; }  // scale, or scale / |q|
  __device__ float* k_factor() const { return q_factor() + kChunk; }                   // 1, or 1 / |k|
  __device__ float* beta() const { return k_factor() + kChunk; }
  __device__ Transfers* transfers() const { return reinterpret_cast<Transfers*>(base + Layout::kTransfers); }
};

// --- Loading ---

// Copies rows [count][width] of a chunk from global memory to shared rows of `padded` elements, zero-padded; complete
// after copies_wait() and a barrier. Copies 16 bytes at a time if the rows are aligned.
__device__ inline void fetch_rows(const Rows& rows, const Place& at, int head, int width, int padded, void* to,
                                  int thread, int threads) {
  const int element = rows.dtype == Dtype::float32 ? 4 : 2, step = 16 / element;
  const unsigned char* from =
      static_cast<const unsigned char*>(rows.data) + rows.offset(at.row, at.token, head) * element;
  unsigned char* shared = static_cast<unsigned char*>(to);
  const int64_t stride = rows.token * element;
  if (reinterpret_cast<uintptr_t>(from) % 16 == 0 && stride % 16 == 0 && width % step == 0) {
    const int per_row = padded / step;
#pragma unroll 1
    for (int n = thread; n < kChunk * per_row; n += threads) {
      const int i = n / per_row, d = n % per_row * step;
      const bool inside = i < at.count && d < width;
      copy_async(shared + static_cast<size_t>(n) * 16, inside ? from + i * stride + d * element : from, inside);
    }
    return;
  }
#pragma unroll 1
  for (int n = thread; n < kChunk * padded; n += threads) {
    const int i = n / padded, d = n % padded;
    const bool inside = i < at.count && d < width;
    if (element == 4) {
      reinterpret_cast<float*>(shared)[n] = inside ? reinterpret_cast<const float*>(from + i * stride)[d] : 0.0f;
    } else {
      reinterpret_cast<uint16_t*>(shared)[n] =
          inside ? reinterpret_cast<const uint16_t*>(from + i * stride)[d] : static_cast<uint16_t>(0);
    }
  }
}

// Whether rows of `width` elements can be bulk-copied: no padding in shared memory, and aligned to 16 bytes.
__device__ __forceinline__ bool fits_bulk(const Rows& rows, const Place& at, int head, int width, int padded) {
  const int element = rows.dtype == Dtype::float32 ? 4 : 2;
  const auto from = reinterpret_cast<uintptr_t>(rows.data) + rows.offset(at.row, at.token, head) * element;
  return width == padded && from % 16 == 0 && rows.token * element % 16 == 0;
}

// Bulk copies of whole chunks, one thread per row. Saves the address computations of 16-byte copies.
template <class Operand, bool kDplr, int kWidth>
struct Bulk {
  using ScratchOf = Scratch<Operand, kDplr, kWidth>;

  // The same for all chunks of a block.
  static __device__ bool possible(const RecurrenceProblem& p, const Place& at) {
    const int K = static_cast<int>(p.K), key_head = at.head / static_cast<int>(p.HV / p.H);
    bool fits = fits_bulk(p.q, at, key_head, K, kWidth) && fits_bulk(p.k, at, key_head, K, kWidth);
    if (kDplr) fits = fits && fits_bulk(p.a, at, at.head, K, kWidth) && fits_bulk(p.b, at, at.head, K, kWidth);
    if (p.decay == Decay::channel) fits = fits && fits_bulk(p.g, at, at.head, K, kWidth);
    return fits;
  }

  static __device__ void fetch(const RecurrenceProblem& p, const Place& at, int thread, const ScratchOf& scratch) {
    const int key_head = at.head / static_cast<int>(p.HV / p.H);
    const auto fetch = [&](const Rows& rows, int head, void* to) {
      if (thread >= kChunk) return;
      const int element = rows.dtype == Dtype::float32 ? 4 : 2;
      copy_bulk(static_cast<unsigned char*>(to) + thread * kWidth * element,
                static_cast<const unsigned char*>(rows.data) +
                    (rows.offset(at.row, at.token, head) + thread * rows.token) * element,
                kWidth * element, scratch.transfers());
    };
    if (thread == 0) {
      int bytes = ScratchOf::Layout::kKinds * kWidth * static_cast<int>(sizeof(typename Operand::Element));
      if (p.decay == Decay::channel) bytes += kWidth * (p.g.dtype == Dtype::float32 ? 4 : 2);
      transfers_expect(scratch.transfers(), kChunk * bytes);
    }
    fetch(p.q, key_head, scratch.input(0));
    fetch(p.k, key_head, scratch.input(1));
    if (kDplr) fetch(p.a, at.head, scratch.input(2));
    if (kDplr) fetch(p.b, at.head, scratch.input(3));
    if (p.decay == Decay::channel) fetch(p.g, at.head, scratch.gates());
  }
};

template <class Operand, bool kDplr, int kWidth>
__device__ void fetch_chunk(const RecurrenceProblem& p, const Place& at, int thread,
                            const Scratch<Operand, kDplr, kWidth>& scratch) {
  constexpr int kThreads = Scratch<Operand, kDplr, kWidth>::Layout::kGroupThreads;
  const int K = static_cast<int>(p.K), key_head = at.head / static_cast<int>(p.HV / p.H);
  const auto fetch = [&](const Rows& rows, int head, int kind) {
    fetch_rows(rows, at, head, K, kWidth, scratch.input(kind), thread, kThreads);
  };
  fetch(p.q, key_head, 0);
  fetch(p.k, key_head, 1);
  if (kDplr) fetch(p.a, at.head, 2);
  if (kDplr) fetch(p.b, at.head, 3);
  if (p.decay == Decay::channel) fetch_rows(p.g, at, at.head, K, kWidth, scratch.gates(), thread, kThreads);
  copies_commit();
}

// The input g (or the gate's raw input) of token i, for this thread's channels.
template <class Operand, bool kDplr, int kWidth>
__device__ __forceinline__ Two gate_input(const RecurrenceProblem& p, const Place& at, int i, int channel,
                                          const Scratch<Operand, kDplr, kWidth>& scratch) {
  if (p.decay == Decay::channel) return load_two(scratch.gates(), p.g.dtype, i * kWidth + channel);
  const float x = load_number(p.g.data, p.g.dtype, p.g.offset(at.row, at.token + i, at.head));
  return {x, x};
}

// exp(g) of this thread's channels.
template <class Operand, bool kDplr, int kWidth>
__device__ void make_decays(const RecurrenceProblem& p, const Place& at, int channel,
                            const Scratch<Operand, kDplr, kWidth>& scratch) {
  const GateParameters gate = gate_parameters(p, at.head, channel);
#pragma unroll 1
  for (int i = 0; i < kChunk; ++i) {
    Two e{1.0f, 1.0f};
    if (p.decay != Decay::none && i < at.count) e = decay_of(p, gate, gate_input(p, at, i, channel, scratch));
    *reinterpret_cast<Two*>(scratch.decays() + i * kWidth + channel) = e;
  }
}

template <class Operand, bool kDplr, int kWidth>
__device__ __forceinline__ void load_channels(int channel, const Scratch<Operand, kDplr, kWidth>& scratch,
                                              Channels<Operand, kDplr>& c) {
  const auto packed = [&](int kind, int i) {
    return *reinterpret_cast<const typename Operand::Packed*>(scratch.input(kind) + i * kWidth + channel);
  };
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    c.q[i] = packed(0, i);
    c.k[i] = packed(1, i);
    if (kDplr) c.a[kDplr ? i : 0] = packed(2, i);
    if (kDplr) c.b[kDplr ? i : 0] = packed(3, i);
    c.e[i] = *reinterpret_cast<const Two*>(scratch.decays() + i * kWidth + channel);
  }
}

// Returns in lane l the warp's sum of x[l]. In each step a lane keeps half of its values and sends the other half.
template <int kStep = 16>
__device__ __forceinline__ float sum_each_of_32(float (&x)[32]) {
  const bool upper = (lane() & kStep) != 0;
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    const float keep = upper ? x[i + kStep] : x[i], give = upper ? x[i] : x[i + kStep];
    x[i] = keep + shuffle_xor(give, kStep);
  }
  if constexpr (kStep > 1) {
    return sum_each_of_32<kStep / 2>(x);
  } else {
    return x[0];
  }
}

// Sums over this warp's channels for every token: |q|^2 and |k|^2 (if `norms`), q . k and q . b.
template <class Operand, bool kDplr, int kWidth>
__device__ void sum_channels(const Channels<Operand, kDplr>& c, bool norms, int warp,
                             const Scratch<Operand, kDplr, kWidth>& scratch) {
  float x[32];
  if (norms) {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const Two q = Operand::unpack(c.q[i]), k = Operand::unpack(c.k[i]);
      x[i] = q.x * q.x + q.y * q.y;
      x[kChunk + i] = k.x * k.x + k.y * k.y;
    }
    scratch.sums(warp)[lane()] = sum_each_of_32(x);
  }
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    const Two q = Operand::unpack(c.q[i]), k = Operand::unpack(c.k[i]);
    const Two b = kDplr ? Operand::unpack(c.b[kDplr ? i : 0]) : Two{0.0f, 0.0f};
    x[i] = q.x * k.x + q.y * k.y;
    x[kChunk + i] = q.x * b.x + q.y * b.y;
  }
  scratch.sums(warp)[32 + lane()] = sum_each_of_32(x);
}

// The per-token scalars of token `i`: factors of q and k, q . k, q . b and beta.
template <class Operand, bool kDplr, int kWidth>
__device__ void finish_token(const RecurrenceProblem& p, const Place& at, int i,
                             const Scratch<Operand, kDplr, kWidth>& scratch) {
  float sums[4] = {};
  for (int warp = 0; warp < Scratch<Operand, kDplr, kWidth>::Layout::kGroupWarps; ++warp) {
#pragma unroll
    for (int n = 0; n < 4; ++n) sums[n] += scratch.sums(warp)[n * kChunk + i];
  }
  scratch.q_factor()[i] = p.l2norm ? p.scale / sqrtf(sums[0] + kL2Eps) : p.scale;
  scratch.k_factor()[i] = p.l2norm ? 1.0f / sqrtf(sums[1] + kL2Eps) : 1.0f;
  scratch.pair(1, 0, i, i) = sums[2];
  if (kDplr) scratch.pair(1, 1, i, i) = sums[3];
  const bool has_beta = p.update == Update::delta && i < at.count;
  scratch.beta()[i] = has_beta ? load_beta(p, at.row, at.token + i, at.head) : 0.0f;
}

// --- Levels ---

// This thread's channels of the level's rows and columns, decayed from or to the middle of their block.
template <int kHalf, class Operand, bool kDplr, int kWidth>
__device__ __forceinline__ void write_level(const Channels<Operand, kDplr>& c, int channel,
                                            typename Operand::Element* level) {
  constexpr int kStride = Scratch<Operand, kDplr, kWidth>::Layout::kStride;
  using Packed = typename Operand::Packed;
  const auto put = [&](int row, Two x) {
    *reinterpret_cast<Packed*>(level + row * kStride + channel) = pack<Operand>(x);
  };
#pragma unroll
  for (int index = 0; index < kChunk / 2; index += kHalf) {
    Two f{1.0f, 1.0f};
#pragma unroll
    for (int n = kHalf - 1; n >= 0; --n) {
      const int j = lower_token(kHalf, index + n);
      put(kChunk + index + n, Operand::unpack(c.k[j]) * f);
      if (kDplr) put(kChunk + kChunk / 2 + index + n, Operand::unpack(c.b[kDplr ? j : 0]) * f);
      f = f * c.e[j];
    }
    f = {1.0f, 1.0f};
#pragma unroll
    for (int n = 0; n < kHalf; ++n) {
      const int i = upper_token(kHalf, index + n);
      if (kDplr) put(index + n, Operand::unpack(c.a[kDplr ? i : 0]) * f);  // reads the state before its own decay
      f = f * c.e[i];
      if (!kDplr) put(index + n, Operand::unpack(c.k[i]) * f);
      put(kChunk / 2 + index + n, Operand::unpack(c.q[i]) * f);
    }
  }
}

template <class Operand, bool kDplr, int kWidth>
__device__ __forceinline__ void write_level(int half, const Channels<Operand, kDplr>& c, int channel,
                                            typename Operand::Element* level) {
  switch (half) {
    case 8: write_level<8, Operand, kDplr, kWidth>(c, channel, level); break;
    case 4: write_level<4, Operand, kDplr, kWidth>(c, channel, level); break;
    case 2: write_level<2, Operand, kDplr, kWidth>(c, channel, level); break;
    default: write_level<1, Operand, kDplr, kWidth>(c, channel, level);
  }
}

// Work of one warp: the products of a level's rows with its columns.
template <class Operand, bool kDplr, int kWidth>
__device__ void multiply_level(int half, const typename Operand::Element* level,
                               const Scratch<Operand, kDplr, kWidth>& scratch) {
  constexpr int kStride = Scratch<Operand, kDplr, kWidth>::Layout::kStride;
  constexpr int kColumns = kDplr ? 2 : 1;
  const typename Operand::Element* columns = level + kChunk * kStride;
  Tile sums[2] = {};
#pragma unroll
  for (int d = 0; d < kWidth; d += 32) {
    const typename Operand::Left rows[2] = {Operand::load_left(level + d, kStride),
                                            Operand::load_left(level + d + 16, kStride)};
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      typename Operand::Right column[2];
      Operand::load_right_deep(column, columns + n * kChunk / 2 * kStride + d, kStride);
      Operand::multiply(sums[n], rows[0], column[0]);
      Operand::multiply(sums[n], rows[1], column[1]);
    }
  }
  const int g = lane() / 4, t = lane() % 4;
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int index = 2 * t + r % 2;
      if (same_block(half, g, index))
        scratch.pair(r / 2, n, upper_token(half, g), lower_token(half, index)) = sums[n].c[r];
    }
  }
}

// --- The tiles of a stage ---

template <class Operand, bool kDplr, int kWidth>
struct Stage {
  using Layout = typename Scratch<Operand, kDplr, kWidth>::Layout;
  using Element = typename Operand::Element;
  unsigned char* base;

  __device__ Element* at(size_t offset) const { return reinterpret_cast<Element*>(base + offset); }
  __device__ Element* rows(int kind) const { return at(Layout::kRows + kind * Layout::kTile); }
  __device__ Element* ends(int column) const { return at(Layout::kEnds + column * Layout::kTile); }
  __device__ Element* inverse() const { return at(Layout::kInverse); }
  __device__ Element* query_pairs(int column) const { return at(Layout::kPairs + column * Layout::kSmall); }
  __device__ Element* solve_pairs(int column) const {
    return at(Layout::kPairs + (Layout::kColumns + column) * Layout::kSmall);
  }
  __device__ float* decay() const { return reinterpret_cast<float*>(base + Layout::kDecay); }
};

// Rows decayed from the chunk's start, columns decayed to its end, and the decay of the whole chunk.
template <class Operand, bool kDplr, int kWidth>
__device__ void write_rows(const Channels<Operand, kDplr>& c, int channel,
                           const Scratch<Operand, kDplr, kWidth>& scratch, const Stage<Operand, kDplr, kWidth>& stage) {
  using Tiles = typename Stage<Operand, kDplr, kWidth>::Layout::Tiles;
  const auto put = [&](typename Operand::Element* rows, int i, Two x) {
    *reinterpret_cast<typename Operand::Packed*>(rows + Tiles::offset(i, channel)) = pack<Operand>(x);
  };
  Two f{1.0f, 1.0f};
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    if (kDplr) put(stage.rows(0), i, Operand::unpack(c.a[kDplr ? i : 0]) * f);
    f = f * c.e[i];
    if (!kDplr) put(stage.rows(0), i, Operand::unpack(c.k[i]) * f * scratch.k_factor()[i]);
    put(stage.rows(1), i, Operand::unpack(c.q[i]) * f * scratch.q_factor()[i]);
  }
  f = {1.0f, 1.0f};
#pragma unroll
  for (int i = kChunk - 1; i >= 0; --i) {
    put(stage.ends(0), i, Operand::unpack(c.k[i]) * f * scratch.k_factor()[i]);
    if (kDplr) put(stage.ends(kDplr ? 1 : 0), i, Operand::unpack(c.b[kDplr ? i : 0]) * f);
    f = f * c.e[i];
  }
  stage.decay()[channel] = f.x;
  stage.decay()[channel + 1] = f.y;
}

// Writes the 16 x 16 matrices of pairs; called by threads 0 .. `threads` - 1.
template <class Operand, bool kDplr, int kWidth>
__device__ void write_pairs(int thread, int threads, const Scratch<Operand, kDplr, kWidth>& scratch,
                            const Stage<Operand, kDplr, kWidth>& stage) {
  using Tiles = typename Stage<Operand, kDplr, kWidth>::Layout::Tiles;
  for (int n = thread; n < kChunk * kChunk; n += threads) {
    const int i = n / kChunk, j = n % kChunk, at = Tiles::small_offset(i, j);
    const float q = scratch.q_factor()[i], k = scratch.k_factor()[j];
    const float solve = kDplr ? 1.0f : scratch.k_factor()[i];
    stage.query_pairs(0)[at] = Operand::round(j <= i ? scratch.pair(1, 0, i, j) * q * k : 0.0f);
    stage.solve_pairs(0)[at] = Operand::round(j < i ? scratch.pair(0, 0, i, j) * solve * k : 0.0f);
    if (kDplr) {
      stage.query_pairs(1)[at] = Operand::round(j <= i ? scratch.pair(1, kDplr ? 1 : 0, i, j) * q : 0.0f);
      stage.solve_pairs(1)[at] = Operand::round(j < i ? scratch.pair(0, kDplr ? 1 : 0, i, j) : 0.0f);
    }
  }
}

// Column `j` of the inverse of the chunk's triangular system: (1 + diag(beta) A)^-1 diag(beta) for the delta rule and
// (1 - A)^-1 for DPLR, where A are the strictly lower triangular products of the solve rows with k or b. By forward
// substitution in float32: near-collinear keys make the entries of the inverse grow, but not its error.
template <class Operand, bool kDplr, int kWidth>
__device__ void write_inverse_column(int j, const Scratch<Operand, kDplr, kWidth>& scratch,
                                     const Stage<Operand, kDplr, kWidth>& stage) {
  using Tiles = typename Stage<Operand, kDplr, kWidth>::Layout::Tiles;
  float x[kChunk];  // the column; for the delta rule times k_factor
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    float sum = 0.0f;
#pragma unroll
    for (int m = 0; m < i; ++m) sum += scratch.pair(0, kDplr ? 1 : 0, i, m) * x[m];
    const float own = i == j ? 1.0f : 0.0f;
    const float value = kDplr ? own + sum : scratch.beta()[i] * (own - scratch.k_factor()[i] * sum);
    stage.inverse()[Tiles::small_offset(i, j)] = Operand::round(value);
    x[i] = kDplr ? value : value * scratch.k_factor()[i];
  }
}

// --- A group's work on a chunk ---

template <class Operand, bool kDplr, int kWidth>
struct Group {
  using Layout = typename Scratch<Operand, kDplr, kWidth>::Layout;
  int thread;   // in the group
  int barrier;  // number of the group's named barrier
  Scratch<Operand, kDplr, kWidth> scratch;
  bool bulk = false;  // whether complete chunks use bulk copies; incomplete ones never do
  int loaded = 0;     // number of chunks loaded by bulk copies

  // Before the first fetch; `at` is any chunk of this block.
  __device__ void begin(const RecurrenceProblem& p, const Place& at) {
    if (!Operand::kCoreMatrices) return;
    if (thread == 0) transfers_begin(scratch.transfers());
    bulk = Bulk<Operand, kDplr, kWidth>::possible(p, at);
    synchronise();
  }

  __device__ void fetch(const RecurrenceProblem& p, const Place& at) const {
    if (bulk && at.count == kChunk) {
      Bulk<Operand, kDplr, kWidth>::fetch(p, at, thread, scratch);
    } else {
      fetch_chunk(p, at, thread, scratch);
    }
  }

  __device__ void synchronise() const {
    if (Layout::kGroupWarps == 1) {
      warp_barrier();
    } else {
      barrier_wait(barrier, Layout::kGroupThreads);
    }
  }

  // Waits for the chunk that was fetched last and starts fetching the next one, unless next.count is 0.
  __device__ void load(const RecurrenceProblem& p, const Place& at, const Place& next, Channels<Operand, kDplr>& c) {
    if (bulk && at.count == kChunk) {
      transfers_wait(scratch.transfers(), loaded++);
    } else {
      copies_wait<0>();
    }
    synchronise();
    make_decays(p, at, 2 * thread, scratch);
    load_channels(2 * thread, scratch, c);
    synchronise();
    if (next.count > 0) fetch(p, next);
  }

  // Computes what the threads have to exchange for a chunk: sums over channels and the pairs, `kAtOnce` levels at a
  // time.
  template <int kAtOnce>
  __device__ void relate(const RecurrenceProblem& p, const Place& at, const Channels<Operand, kDplr>& c) const {
    const int warp = thread / kWarp, channel = 2 * thread;
    sum_channels(c, p.l2norm, warp, scratch);
#pragma unroll
    for (int first = 0; first < kLevels; first += kAtOnce) {
      if (first > 0) synchronise();
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n) {
        write_level<Operand, kDplr, kWidth>(8 >> (first + n), c, channel, scratch.level(n));
      }
      synchronise();
      if (first == 0 && thread < kChunk) finish_token(p, at, thread, scratch);
      for (int n = warp; n < kAtOnce; n += Layout::kGroupWarps) {
        multiply_level(8 >> (first + n), scratch.level(n), scratch);
      }
    }
    synchronise();
  }

  __device__ void write(const Channels<Operand, kDplr>& c, const Stage<Operand, kDplr, kWidth>& stage,
                        bool solves) const {
    if (solves && thread < kChunk) write_inverse_column(thread, scratch, stage);
    write_rows(c, 2 * thread, scratch, stage);
    write_pairs(thread, Layout::kGroupThreads, scratch, stage);
  }
};

}  // namespace klab::kernels::cuda
