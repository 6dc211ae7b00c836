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

template <bool kAccurate>
__device__ __forceinline__ float log_decay(const RecurrenceProblem& p, float rate, float x) {
  return p.gate == Gate::softplus ? -rate * softplus<kAccurate>(x) : p.lower_bound * sigmoid<kAccurate>(rate * x);
}

// exp(g) from g or from the gate's raw input.
template <bool kAccurate>
__device__ __forceinline__ Two decay_of(const RecurrenceProblem& p, const GateParameters& gate, Two g) {
  if (p.gate != Gate::log_decay) {
    g = {log_decay<kAccurate>(p, gate.rate, g.x + gate.bias.x), log_decay<kAccurate>(p, gate.rate, g.y + gate.bias.y)};
  }
  return {exponential<kAccurate>(g.x), exponential<kAccurate>(g.y)};
}

__device__ __forceinline__ float beta_of(const RecurrenceProblem& p, float x) {
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

// The order of a stage's tiles: that of rows, unless the operand says otherwise.
template <class Operand>
constexpr TileOrder tile_order() {
  if constexpr (requires { Operand::kOrder; }) {
    return Operand::kOrder;
  } else {
    return TileOrder::rows;
  }
}

template <class Operand, bool kDplr, int kWidth>
struct Scratch {
  static constexpr int kColumns = kDplr ? 2 : 1;
  using Layout = ChunkLayout<sizeof(typename Operand::Element), kColumns, kWidth, tile_order<Operand>()>;
  using Element = typename Operand::Element;
  unsigned char* base;

  // Inputs of a kind: 0 q, 1 k, 2 a, 3 b.
  __device__ Element* input(int kind) const {
    return reinterpret_cast<Element*>(base + Layout::kInputs + kind * Layout::kInput);
  }
  __device__ void* gates() const { return base + Layout::kGates; }
  __device__ Element* level(int slot) const {
    return reinterpret_cast<Element*>(base + Layout::kLevels0 + slot * Layout::kLevel);
  }
  // Row i of the raw products of a kind (0 solve, 1 query) with column j, [kind][column][i][j].
  __device__ float* pairs(int kind, int column, int i) const {
    return reinterpret_cast<float*>(base + Layout::kPairSums) + ((kind * kColumns + column) * kChunk + i) * kPairStride;
  }
  __device__ float& pair(int kind, int column, int i, int j) const { return pairs(kind, column, i)[j]; }
  // Per token. The factors are squares of norms until finish_token().
  __device__ float* q_factor() const { return reinterpret_cast<float*>(base + Layout::kNumbers); }  // scale, or / |q|
  __device__ float* k_factor() const { return q_factor() + kChunk; }                                // 1, or 1 / |k|
  __device__ float* beta() const { return k_factor() + kChunk; }
  __device__ float* head_decay() const { return beta() + kChunk; }  // exp(g), if g has no channels
};

// --- Loading ---

// Whether all rows of a tensor can be copied 16 bytes at a time, with offsets of 32 bits inside a chunk.
inline bool has_aligned_rows(const Rows& rows, int64_t width) {
  const int64_t element = rows.dtype == Dtype::float32 ? 4 : 2;
  if (rows.token > INT32_MAX / 4 / kChunk) return false;
  const int64_t all = static_cast<int64_t>(reinterpret_cast<uintptr_t>(rows.data)) | rows.token * element |
                      rows.head * element | rows.batch * element | width * element;
  return all % 16 == 0;
}

// Whether two adjacent columns of 16-bit numbers can be stored together in all rows, with offsets of 32 bits inside a
// chunk.
inline bool has_paired_rows(const MutableRows& rows, int64_t width) {
  const int64_t all =
      static_cast<int64_t>(reinterpret_cast<uintptr_t>(rows.data)) / 2 | rows.token | rows.head | rows.batch | width;
  return all % 2 == 0 && rows.token <= INT32_MAX / kChunk;
}

// Which inputs can be copied 16 bytes at a time. Determined on the host: the same for all chunks.
struct Alignment {
  bool keys, values, d_o;  // all rows of width K; v; the gradient of o
};

inline Alignment alignment_of(const RecurrenceProblem& p, const Rows& d_o = {}) {
  bool keys = has_aligned_rows(p.q, p.K) && has_aligned_rows(p.k, p.K);
  if (p.update == Update::dplr) keys = keys && has_aligned_rows(p.a, p.K) && has_aligned_rows(p.b, p.K);
  if (p.decay == Decay::channel) keys = keys && has_aligned_rows(p.g, p.K);
  return {keys, has_aligned_rows(p.v, p.V), has_aligned_rows(d_o, p.V)};
}

// Copies of rows of `width` elements of kElement bytes, as rows of kPadded elements, zero-padded and kStride apart, by
// kThreads threads.
template <int kElement, int kPadded, int kStride, int kThreads>
struct RowCopies {
  static constexpr int kPerRow = kPadded * kElement / 16, kRowStep = kThreads / kPerRow;
  static_assert(kThreads % kPerRow == 0 && kChunk % kRowStep == 0);

  // Where `thread` copies from: for aligned rows its own first 16 bytes of the token, else the token's row.
  static __device__ __forceinline__ const unsigned char* source(const Rows& rows, int64_t row, int64_t token, int head,
                                                                bool aligned, int thread) {
    const auto* data = static_cast<const unsigned char*>(rows.data) + rows.offset(row, token, head) * kElement;
    return aligned ? data + thread / kPerRow * rows.token * kElement + thread % kPerRow * 16 : data;
  }

  // source() of a token that is `tokens` later.
  static __device__ __forceinline__ const unsigned char* later(const Rows& rows, const unsigned char* source,
                                                               int tokens) {
    return source + static_cast<uint64_t>(static_cast<unsigned>(tokens)) * static_cast<unsigned>(rows.token * kElement);
  }

  // Rows of `count` tokens, aligned; complete after copies_wait() and a barrier. `kWhole`: count is kChunk.
  template <bool kWhole>
  static __device__ __forceinline__ void start(const Rows& rows, const unsigned char* source, int count, int width,
                                               void* to, int thread) {
    const int first = thread / kPerRow, byte = thread % kPerRow * 16;
    unsigned char* shared = static_cast<unsigned char*>(to) + first * kStride * kElement + byte;
    const bool inside = byte < width * kElement;
#pragma unroll
    for (int i = 0; i < kChunk; i += kRowStep) {
      copy_async(shared + i * kStride * kElement, source, inside && (kWhole || first + i < count));
      source += kRowStep * static_cast<unsigned>(rows.token * kElement);
    }
  }

  // The same for rows of any alignment, at once.
  static __device__ void copy(const Rows& rows, const unsigned char* from, int64_t token, int count, int width,
                              void* to, int thread) {
    const unsigned char* at = from + token * rows.token * kElement;
#pragma unroll 1
    for (int n = thread; n < kChunk * kPadded; n += kThreads) {
      const int i = n / kPadded, d = n % kPadded;
      const bool inside = i < count && d < width;
      const unsigned char* row = at + i * rows.token * kElement;
      if (kElement == 4) {
        static_cast<float*>(to)[i * kStride + d] = inside ? reinterpret_cast<const float*>(row)[d] : 0.0f;
      } else {
        static_cast<uint16_t*>(to)[i * kStride + d] =
            inside ? reinterpret_cast<const uint16_t*>(row)[d] : static_cast<uint16_t>(0);
      }
    }
  }
};

// The inputs that threads 0 .. 15 load, one token each: a chunk ahead, so as bits that nothing has to wait for.
struct TokenBits {
  uint32_t beta, gate;
};

// exp(g) of this thread's channels, from the inputs g or the gate's raw inputs in shared memory. Rows from `count` on
// are zero: with a gate they still need a decay of 1.
template <class Operand, Dtype kDtype, int kWidth>
__device__ __forceinline__ void load_decays(const RecurrenceProblem& p, const GateParameters& gate, const void* gates,
                                            int channel, int count, Two (&e)[kChunk]) {
  constexpr bool kAccurate = Operand::kDtype == Dtype::float32;
  const auto for_each = [&](const auto& decay) {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) e[i] = decay(load_two(gates, kDtype, i * kWidth + channel), i);
  };
  if (p.gate == Gate::log_decay) {
    for_each([](Two g, int) { return Two{exponential<kAccurate>(g.x), exponential<kAccurate>(g.y)}; });
  } else {
    for_each([&](Two g, int i) { return i < count ? decay_of<kAccurate>(p, gate, g) : Two{1.0f, 1.0f}; });
  }
}

template <class Operand, bool kDplr, int kWidth>
__device__ __forceinline__ void load_channels(const RecurrenceProblem& p, const GateParameters& gate, int count,
                                              int channel, const Scratch<Operand, kDplr, kWidth>& scratch,
                                              Channels<Operand, kDplr>& c) {
  constexpr int kStride = Scratch<Operand, kDplr, kWidth>::Layout::kStride;
  const auto packed = [&](int kind, int i) {
    return *reinterpret_cast<const typename Operand::Packed*>(scratch.input(kind) + i * kStride + channel);
  };
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    c.q[i] = packed(0, i);
    c.k[i] = packed(1, i);
    if (kDplr) c.a[kDplr ? i : 0] = packed(2, i);
    if (kDplr) c.b[kDplr ? i : 0] = packed(3, i);
  }
  if (p.decay != Decay::channel) {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) c.e[i] = {scratch.head_decay()[i], scratch.head_decay()[i]};
  } else if (p.g.dtype == Dtype::float32) {
    load_decays<Operand, Dtype::float32, kWidth>(p, gate, scratch.gates(), channel, count, c.e);
  } else if constexpr (Operand::kDtype != Dtype::float32) {
    load_decays<Operand, Operand::kDtype, kWidth>(p, gate, scratch.gates(), channel, count, c.e);
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

// Work of one warp: the products of every token's q with its own k and b, and the squares |q|^2 and |k|^2, from the raw
// inputs: the diagonals of matrix products.
template <class Operand, bool kDplr, int kWidth>
__device__ __forceinline__ void multiply_own(const Scratch<Operand, kDplr, kWidth>& scratch) {
  using Left = typename Operand::Left;
  using Right = typename Operand::Right;
  constexpr int kStride = Scratch<Operand, kDplr, kWidth>::Layout::kStride;
  Tile q_q[2] = {}, k_k[2] = {}, q_k[2] = {}, q_b[2] = {};  // columns 0..7 and 8..15
  const auto multiply = [](Tile(&to)[2], const Left& rows, const Right(&columns)[2]) {
    Operand::multiply(to[0], rows, columns[0]);
    Operand::multiply(to[1], rows, columns[1]);
  };
#pragma unroll
  for (int d = 0; d < kWidth; d += 16) {
    const Left q = Operand::load_left(scratch.input(0) + d, kStride),
               k = Operand::load_left(scratch.input(1) + d, kStride);
    Right with[2];
    Operand::load_right(with, scratch.input(0) + d, kStride);
    multiply(q_q, q, with);
    Operand::load_right(with, scratch.input(1) + d, kStride);
    multiply(k_k, k, with);
    multiply(q_k, q, with);
    if (!kDplr) continue;
    Operand::load_right(with, scratch.input(kDplr ? 3 : 0) + d, kStride);
    multiply(q_b, q, with);
  }
  const int g = lane() / 4;
  if (lane() % 4 != g / 2) return;  // lanes with elements (g, g) of the first tile, (g + 8, g) of the second
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = half * 8 + g;
    const auto own = [&](const Tile(&tiles)[2]) {
      return g % 2 == 0 ? tiles[half].c[2 * half] : tiles[half].c[2 * half + 1];
    };
    scratch.q_factor()[i] = own(q_q);
    scratch.k_factor()[i] = own(k_k);
    scratch.pair(1, 0, i, i) = own(q_k);
    if (kDplr) scratch.pair(1, kDplr ? 1 : 0, i, i) = own(q_b);
  }
}

// From squares of norms to factors, for token `i`.
template <class Operand, bool kDplr, int kWidth>
__device__ __forceinline__ void finish_token(const RecurrenceProblem& p, int i,
                                             const Scratch<Operand, kDplr, kWidth>& scratch) {
  float &q = scratch.q_factor()[i], &k = scratch.k_factor()[i];
  q = p.l2norm ? p.scale * rsqrtf(q + kL2Eps) : p.scale;
  k = p.l2norm ? rsqrtf(k + kL2Eps) : 1.0f;
}

// --- Levels ---

// This thread's channels of the level's rows and columns, decayed from or to the middle of their block.
template <int kHalf, class Operand, bool kDplr, int kWidth>
__device__ __forceinline__ void write_level(const Channels<Operand, kDplr>& c, int channel,
                                            typename Operand::Element* level) {
  constexpr int kStride = Scratch<Operand, kDplr, kWidth>::Layout::kStride;
  using Packed = typename Operand::Packed;
  const auto put_decayed = [&](int row, Packed x, Two f, bool is_one) {
    *reinterpret_cast<Packed*>(level + row * kStride + channel) = is_one ? x : pack<Operand>(Operand::unpack(x) * f);
  };
#pragma unroll
  for (int index = 0; index < kChunk / 2; index += kHalf) {
    Two f{1.0f, 1.0f};
#pragma unroll
    for (int n = kHalf - 1; n >= 0; --n) {
      const int j = lower_token(kHalf, index + n);
      put_decayed(kChunk + index + n, c.k[j], f, n == kHalf - 1);
      if (kDplr) put_decayed(kChunk + kChunk / 2 + index + n, c.b[kDplr ? j : 0], f, n == kHalf - 1);
      f = f * c.e[j];
    }
    f = {1.0f, 1.0f};
#pragma unroll
    for (int n = 0; n < kHalf; ++n) {
      const int i = upper_token(kHalf, index + n);
      if (kDplr) put_decayed(index + n, c.a[kDplr ? i : 0], f, n == 0);  // reads the state before its own decay
      f = n == 0 ? c.e[i] : f * c.e[i];
      if (!kDplr) put_decayed(index + n, c.k[i], f, false);
      put_decayed(kChunk / 2 + index + n, c.q[i], f, false);
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
template <int kHalf, class Operand, bool kDplr, int kWidth>
__device__ __forceinline__ void multiply_level(const typename Operand::Element* level,
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
  const int l = opaque(lane()) & 31, g = l / 4, t = l % 4;
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int index = 2 * t + r % 2;
      if (same_block(kHalf, g, index))
        scratch.pair(r / 2, n, upper_token(kHalf, g), lower_token(kHalf, index)) = sums[n].c[r];
    }
  }
}

template <class Operand, bool kDplr, int kWidth>
__device__ __forceinline__ void multiply_level(int half, const typename Operand::Element* level,
                                               const Scratch<Operand, kDplr, kWidth>& scratch) {
  switch (half) {
    case 8: multiply_level<8>(level, scratch); break;
    case 4: multiply_level<4>(level, scratch); break;
    case 2: multiply_level<2>(level, scratch); break;
    default: multiply_level<1>(level, scratch);
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
  __device__ Element* solve_pairs(int column) const { return at(Layout::kSolvePairs + column * Layout::kSmall); }
  __device__ float* decay() const { return reinterpret_cast<float*>(base + Layout::kDecay); }
};

// Rows decayed from the chunk's start, columns decayed to its end, and the decay of the whole chunk.
template <class Operand, bool kDplr, int kWidth>
__device__ __forceinline__ void write_rows(const Channels<Operand, kDplr>& c, int channel,
                                           const Scratch<Operand, kDplr, kWidth>& scratch,
                                           const Stage<Operand, kDplr, kWidth>& stage) {
  using Tiles = typename Stage<Operand, kDplr, kWidth>::Layout::Tiles;
  const auto put = [&](typename Operand::Element* rows, int i, Two x) {
    *reinterpret_cast<typename Operand::Packed*>(rows + Tiles::offset(i, channel)) = pack<Operand>(x);
  };
  float q_factor[kChunk], k_factor[kChunk];  // read first: a load cannot pass the stores below
  load_floats(scratch.q_factor(), q_factor);
  load_floats(scratch.k_factor(), k_factor);
  Two k[kChunk], f{1.0f, 1.0f};
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    k[i] = Operand::unpack(c.k[i]) * k_factor[i];
    if (kDplr) put(stage.rows(0), i, Operand::unpack(c.a[kDplr ? i : 0]) * f);
    f = i == 0 ? c.e[i] : f * c.e[i];
    if (!kDplr) put(stage.rows(0), i, k[i] * f);
    put(stage.rows(1), i, Operand::unpack(c.q[i]) * q_factor[i] * f);
  }
  f = {1.0f, 1.0f};
#pragma unroll
  for (int i = kChunk - 1; i >= 0; --i) {
    put(stage.ends(0), i, k[i] * f);
    if (kDplr) put(stage.ends(kDplr ? 1 : 0), i, Operand::unpack(c.b[kDplr ? i : 0]) * f);
    f = f * c.e[i];
  }
  *reinterpret_cast<Two*>(stage.decay() + channel) = f;
}

// Work of one warp: writes the 16 x 16 matrices of pairs; the solve pairs only if they are wanted. A lane has eight
// columns of a row.
template <bool kSolvePairs, class Operand, bool kDplr, int kWidth>
__device__ __forceinline__ void write_pairs(const Scratch<Operand, kDplr, kWidth>& scratch,
                                            const Stage<Operand, kDplr, kWidth>& stage) {
  using Tiles = typename Stage<Operand, kDplr, kWidth>::Layout::Tiles;
  const int i = lane() / 2, first = lane() % 2 * 8;
  const auto put = [&](int kind, int column, float factor, const float(&factors)[8], typename Operand::Element* to) {
    float x[8];
    load_floats(scratch.pairs(kind, column, i) + first, x);
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const bool inside = kind == 1 ? first + n <= i : first + n < i;
      x[n] = inside ? x[n] * factor * factors[n] : 0.0f;
    }
    auto* packed = reinterpret_cast<typename Operand::Packed*>(to + Tiles::small_offset(i, first));
#pragma unroll
    for (int n = 0; n < 4; ++n) packed[n] = Operand::pack(x[2 * n], x[2 * n + 1]);
  };
  const float q = scratch.q_factor()[i], ones[8] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
  float k[8];
  load_floats(scratch.k_factor() + first, k);
  put(1, 0, q, k, stage.query_pairs(0));
  if (kDplr) put(1, kDplr ? 1 : 0, q, ones, stage.query_pairs(kDplr ? 1 : 0));
  if (!kSolvePairs) return;
  put(0, 0, kDplr ? 1.0f : scratch.k_factor()[i], k, stage.solve_pairs(0));
  if (kDplr) put(0, kDplr ? 1 : 0, 1.0f, ones, stage.solve_pairs(kDplr ? 1 : 0));
}

// Column `j` of the inverse of the chunk's triangular system: (1 + diag(beta) A)^-1 diag(beta) for the delta rule and
// (1 - A)^-1 for DPLR, where A are the strictly lower triangular products of the solve rows with k or b. By forward
// substitution in float32: near-collinear keys make the entries of the inverse grow, but not its error.
template <class Operand, bool kDplr, int kWidth>
__device__ __forceinline__ void write_inverse_column(int j, const Scratch<Operand, kDplr, kWidth>& scratch,
                                                     const Stage<Operand, kDplr, kWidth>& stage) {
  using Tiles = typename Stage<Operand, kDplr, kWidth>::Layout::Tiles;
  float k_factor[kChunk], beta[kChunk];
  if (!kDplr) load_floats(scratch.k_factor(), k_factor);
  if (!kDplr) load_floats(scratch.beta(), beta);
  float x[kChunk], column[kChunk];  // for the delta rule, x is the column times k_factor
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    float row[kChunk], sums[2] = {0.0f, 0.0f};
    load_floats(scratch.pairs(0, kDplr ? 1 : 0, i), row);
#pragma unroll
    for (int m = 0; m < i; ++m) sums[m % 2] += row[m] * x[m];
    const float own = i == j ? 1.0f : 0.0f, sum = sums[0] + sums[1];
    column[i] = kDplr ? own + sum : beta[i] * (own - k_factor[i] * sum);
    x[i] = kDplr ? column[i] : column[i] * k_factor[i];
  }
#pragma unroll
  for (int i = 0; i < kChunk; ++i) stage.inverse()[Tiles::small_offset(i, j)] = Operand::round(column[i]);
}

// --- A group's work on a chunk ---

template <class Operand, bool kDplr, int kWidth>
struct Group {
  using Layout = typename Scratch<Operand, kDplr, kWidth>::Layout;
  int thread;   // in the group
  int barrier;  // number of the group's named barrier
  Scratch<Operand, kDplr, kWidth> scratch;
  bool aligned = false;  // whether the inputs' rows are copied 16 bytes at a time
  // Of the first token: where to copy from (RowCopies::source()), or its row.
  const unsigned char *inputs[Layout::kKinds] = {}, *gates = nullptr, *beta = nullptr;
  GateParameters gate{};
  TokenBits bits{};  // of the chunk that was fetched last

  static constexpr int kElement = sizeof(typename Operand::Element), kThreads = Layout::kGroupThreads;
  using InputCopies = RowCopies<kElement, kWidth, Layout::kStride, kThreads>;
  template <int kGateElement>
  using GateCopies = RowCopies<kGateElement, kWidth, kWidth, kThreads>;

  static __device__ __forceinline__ const Rows& rows(const RecurrenceProblem& p, int kind) {
    return kind == 0 ? p.q : kind == 1 ? p.k : kind == 2 ? p.a : p.b;
  }

  // Before the first fetch, with the token that fetch() counts from.
  __device__ __forceinline__ void begin(const RecurrenceProblem& p, bool aligned_keys, int64_t row, int64_t token,
                                        int head) {
    const int key_head = p.HV == p.H ? head : head / static_cast<int>(p.HV / p.H);
    aligned = aligned_keys;
#pragma unroll
    for (int kind = 0; kind < Layout::kKinds; ++kind) {
      inputs[kind] = InputCopies::source(rows(p, kind), row, token, kind < 2 ? key_head : head, aligned, thread);
    }
    const bool copied = p.decay == Decay::channel && aligned;
    gates = p.g.dtype == Dtype::float32 ? GateCopies<4>::source(p.g, row, token, head, copied, thread)
                                        : GateCopies<2>::source(p.g, row, token, head, copied, thread);
    beta = p.beta.dtype == Dtype::float32 ? GateCopies<4>::source(p.beta, row, token, head, false, thread)
                                          : GateCopies<2>::source(p.beta, row, token, head, false, thread);
    if (p.decay != Decay::none) gate = gate_parameters(p, head, 2 * thread);
  }

  // Starts to load the inputs of a chunk of `count` tokens from `first`.
  __device__ __forceinline__ void fetch(const RecurrenceProblem& p, int first, int count) {
    const bool wide_gates = p.g.dtype == Dtype::float32;
    if (!aligned) {
      copy_rows(p, first, count, wide_gates);
    } else if (count == kChunk) {
      start_copies<true>(p, first, count, wide_gates);
    } else {
      start_copies<false>(p, first, count, wide_gates);
    }
    if (thread >= count || thread >= kChunk) return;
    const int64_t token = first + thread;
    if (p.update == Update::delta) bits.beta = load_bits(beta, p.beta.dtype, token * p.beta.token);
    if (p.decay == Decay::scalar) bits.gate = load_bits(gates, p.g.dtype, token * p.g.token);
  }

  template <bool kWhole>
  __device__ __forceinline__ void start_copies(const RecurrenceProblem& p, int first, int count,
                                               bool wide_gates) const {
    const int K = static_cast<int>(p.K);
#pragma unroll
    for (int kind = 0; kind < Layout::kKinds; ++kind) {
      InputCopies::template start<kWhole>(rows(p, kind), InputCopies::later(rows(p, kind), inputs[kind], first), count,
                                          K, scratch.input(kind), thread);
    }
    if (p.decay == Decay::channel && wide_gates) {
      GateCopies<4>::template start<kWhole>(p.g, GateCopies<4>::later(p.g, gates, first), count, K, scratch.gates(),
                                            thread);
    } else if (p.decay == Decay::channel) {
      GateCopies<2>::template start<kWhole>(p.g, GateCopies<2>::later(p.g, gates, first), count, K, scratch.gates(),
                                            thread);
    }
    copies_commit();
  }

  __device__ void copy_rows(const RecurrenceProblem& p, int first, int count, bool wide_gates) const {
    const int K = static_cast<int>(p.K);
#pragma unroll
    for (int kind = 0; kind < Layout::kKinds; ++kind) {
      InputCopies::copy(rows(p, kind), inputs[kind], first, count, K, scratch.input(kind), thread);
    }
    if (p.decay != Decay::channel) return;
    if (wide_gates) {
      GateCopies<4>::copy(p.g, gates, first, count, K, scratch.gates(), thread);
    } else {
      GateCopies<2>::copy(p.g, gates, first, count, K, scratch.gates(), thread);
    }
  }

  __device__ __forceinline__ void synchronise() const {
    if (Layout::kGroupWarps == 1) {
      warp_barrier();
    } else {
      barrier_wait(barrier, Layout::kGroupThreads);
    }
  }

  // Waits for the chunk that was fetched last, of `count` tokens, but not for `kLater` groups of copies begun after it.
  template <int kLater = 0>
  __device__ __forceinline__ void load(const RecurrenceProblem& p, int count, Channels<Operand, kDplr>& c) {
    copies_wait<kLater>();
    if (thread < kChunk) write_numbers(p, thread < count);
    synchronise();
    load_channels(p, gate, count, 2 * thread, scratch, c);
  }

  // beta, and the decay if it has no channels, of token `thread`.
  __device__ __forceinline__ void write_numbers(const RecurrenceProblem& p, bool inside) const {
    constexpr bool kAccurate = Operand::kDtype == Dtype::float32;
    const bool has_beta = p.update == Update::delta && inside;
    scratch.beta()[thread] = has_beta ? beta_of(p, number_of(bits.beta, p.beta.dtype)) : 0.0f;
    if (p.decay == Decay::channel) return;
    const float g = p.decay == Decay::scalar && inside ? number_of(bits.gate, p.g.dtype) : 0.0f;
    scratch.head_decay()[thread] = p.decay == Decay::scalar && inside ? decay_of<kAccurate>(p, gate, {g, g}).x : 1.0f;
  }

  // Computes what the threads have to exchange for a chunk: the sums over channels, kAtOnce levels at a time. Starts to
  // load the next chunk as soon as the inputs have been read, unless next_count is 0.
  template <int kAtOnce>
  __device__ __forceinline__ void relate(const RecurrenceProblem& p, const Channels<Operand, kDplr>& c, int next_first,
                                         int next_count) {
    static_assert(kAtOnce < kLevels);
    const int warp = thread / kWarp;
#pragma unroll
    for (int first = 0; first < kLevels; first += kAtOnce) {
      if (first > 0) synchronise();
      if (first == kAtOnce && next_count > 0) fetch(p, next_first, next_count);
      if (first == kAtOnce && thread < kChunk) finish_token(p, thread, scratch);
      write_levels<kAtOnce>(first, c);
      synchronise();
      multiply_levels<kAtOnce>(first, warp);
      if (first == 0 && warp == Layout::kGroupWarps - 1) multiply_own(scratch);
    }
    synchronise();
  }

  template <int kAtOnce>
  __device__ __forceinline__ void write_levels(int first, const Channels<Operand, kDplr>& c) const {
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      write_level<Operand, kDplr, kWidth>(8 >> (first + n), c, 2 * thread, scratch.level(n));
    }
  }

  // A warp per level.
  template <int kAtOnce>
  __device__ __forceinline__ void multiply_levels(int first, int warp) const {
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      if (warp == (first + n) % Layout::kGroupWarps) multiply_level(8 >> (first + n), scratch.level(n), scratch);
    }
  }

  template <bool kSolvePairs = kDplr>
  __device__ __forceinline__ void write(const Channels<Operand, kDplr>& c, const Stage<Operand, kDplr, kWidth>& stage,
                                        bool solves) const {
    write_rows(c, 2 * thread, scratch, stage);
    if (solves && thread < kChunk) write_inverse_column(thread, scratch, stage);
    if (thread / kWarp == Layout::kGroupWarps - 1) write_pairs<kSolvePairs>(scratch, stage);
  }
};

}  // namespace klab::kernels::cuda
