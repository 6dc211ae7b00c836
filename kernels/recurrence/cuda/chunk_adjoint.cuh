// SPDX-License-Identifier: Apache-2.0
// Backward pass through a chunk's decays: from the gradients of its rows, ends and pairs (chunk.cuh) to those of its
// inputs.
//
// A product of decays over (j, i] adds its gradient times its value to the gradient of the log-decay of every token in
// (j, i]. For decayed rows this is a running sum from the end of the chunk or block, for decayed columns one from its
// beginning: no two sums are subtracted.
#pragma once

#include "kernels/recurrence/cuda/chunk.cuh"
#include "kernels/recurrence/cuda/gradient_layout.h"

namespace klab::kernels::cuda {

// Gradients of a thread's two channels, [16] tokens each, in shared memory or in registers.
struct ChannelSums {
  float* base;  // [kind, 16][stride], at the thread's first channel
  int stride;

  __device__ Two& at(int kind, int i) const { return *reinterpret_cast<Two*>(base + (kind * kChunk + i) * stride); }
};

template <int kKinds>
struct ChannelRegisters {
  Two x[kKinds][kChunk];

  __device__ __forceinline__ Two& at(int kind, int i) { return x[kind][i]; }
  __device__ __forceinline__ void load(const ChannelSums& from) {
#pragma unroll
    for (int kind = 0; kind < kKinds; ++kind) {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) x[kind][i] = from.at(kind, i);
    }
  }
};

// The kinds of gradients before adjoint_of_rows() (first line) and after it. For DPLR the solve rows belong to a,
// and there are also b and its ends.
template <bool kDplr>
struct Kinds {
  static constexpr int kSolveRows = 0, kQueryRows = 1, kEndsOfK = 2, kEndsOfB = 3;
  static constexpr int kQ = kQueryRows, kK = kDplr ? kEndsOfK : kSolveRows, kG = kDplr ? 4 : kEndsOfK;
  static constexpr int kA = kSolveRows, kB = kEndsOfB;  // DPLR only
};

// The inputs, with q and k multiplied by their factors (scale and L2 norm).
template <class Operand, bool kDplr, int kWidth>
struct Factored {
  const Channels<Operand, kDplr>& c;
  const Scratch<Operand, kDplr, kWidth>& scratch;

  __device__ Two q(int i) const { return Operand::unpack(c.q[i]) * scratch.q_factor()[i]; }
  __device__ Two k(int i) const { return Operand::unpack(c.k[i]) * scratch.k_factor()[i]; }
  __device__ Two a(int i) const { return Operand::unpack(c.a[kDplr ? i : 0]); }
  __device__ Two b(int i) const { return Operand::unpack(c.b[kDplr ? i : 0]); }
};

// Replaces the gradients of rows and ends in `d`, with the gradient `d_decay` of the chunk's decay, by those of the
// inputs.
template <class Operand, bool kDplr, int kWidth, class Sums>
__device__ __forceinline__ void adjoint_of_rows(const Factored<Operand, kDplr, kWidth>& x, Two d_decay, Sums& d) {
  using Kind = Kinds<kDplr>;
  const auto& e = x.c.e;
  Two through[kChunk], of_decay[kChunk];
  Two f{1.0f, 1.0f};
#pragma unroll
  for (int i = 0; i < kChunk; ++i) through[i] = f = f * e[i];
  Two suffix = d_decay * f;
#pragma unroll
  for (int i = kChunk - 1; i >= 0; --i) {
    const Two d_solve = d.at(Kind::kSolveRows, i), d_query = d.at(Kind::kQueryRows, i);
    suffix = suffix + d_query * x.q(i) * through[i];
    d.at(Kind::kQ, i) = d_query * through[i];
    if (!kDplr) {
      suffix = suffix + d_solve * x.k(i) * through[i];
      d.at(Kind::kSolveRows, i) = d_solve * through[i];
    }
    of_decay[i] = suffix;
    if (kDplr) {
      const Two before = i > 0 ? through[i > 0 ? i - 1 : 0] : Two{1.0f, 1.0f};
      suffix = suffix + d_solve * x.a(i) * before;
      d.at(Kind::kA, i) = d_solve * before;
    }
  }
  Two after[kChunk];
  f = {1.0f, 1.0f};
#pragma unroll
  for (int i = kChunk - 1; i >= 0; --i) {
    after[i] = f;
    f = f * e[i];
  }
  Two prefix{0.0f, 0.0f};
#pragma unroll
  for (int j = 0; j < kChunk; ++j) {
    const Two d_k = d.at(Kind::kEndsOfK, j), d_b = kDplr ? d.at(Kind::kEndsOfB, j) : Two{0.0f, 0.0f};
    const Two so_far = kDplr ? Two{0.0f, 0.0f} : d.at(Kind::kSolveRows, j);
    d.at(Kind::kK, j) = so_far + d_k * after[j];
    if (kDplr) d.at(Kind::kB, j) = d_b * after[j];
    d.at(Kind::kG, j) = of_decay[j] + prefix;
    prefix = prefix + d_k * x.k(j) * after[j];
    if (kDplr) prefix = prefix + d_b * x.b(j) * after[j];
  }
}

// Adds the contribution of a level's pairs: `level` has the gradients of its rows (8 solve, 8 query) and columns (8 k,
// 8 b).
template <int kHalf, class Operand, bool kDplr, int kWidth, class Sums>
__device__ __forceinline__ void adjoint_of_level(const Factored<Operand, kDplr, kWidth>& x, const ChannelSums& level,
                                                 Sums& d) {
  using Kind = Kinds<kDplr>;
  const auto add = [](Two& to, Two y) { to = to + y; };
#pragma unroll
  for (int index = 0; index < kChunk / 2; index += kHalf) {
    Two f[kHalf];  // decays of the rows from the middle of the block, below those of the columns to it
    Two product{1.0f, 1.0f};
#pragma unroll
    for (int n = 0; n < kHalf; ++n) f[n] = product = product * x.c.e[upper_token(kHalf, index + n)];
    Two suffix{0.0f, 0.0f};
#pragma unroll
    for (int n = kHalf - 1; n >= 0; --n) {
      const int i = upper_token(kHalf, index + n);
      const Two d_solve = level.at(0, index + n), d_query = level.at(0, kChunk / 2 + index + n);
      suffix = suffix + d_query * x.q(i) * f[n];
      add(d.at(Kind::kQ, i), d_query * f[n]);
      if (!kDplr) {
        suffix = suffix + d_solve * x.k(i) * f[n];
        add(d.at(Kind::kK, i), d_solve * f[n]);
      }
      add(d.at(Kind::kG, i), suffix);
      if (kDplr) {
        const Two before = n > 0 ? f[n > 0 ? n - 1 : 0] : Two{1.0f, 1.0f};
        suffix = suffix + d_solve * x.a(i) * before;
        add(d.at(Kind::kA, i), d_solve * before);
      }
    }
    product = {1.0f, 1.0f};
#pragma unroll
    for (int n = kHalf - 1; n >= 0; --n) {
      f[n] = product;
      product = product * x.c.e[lower_token(kHalf, index + n)];
    }
    Two prefix{0.0f, 0.0f};
#pragma unroll
    for (int n = 0; n < kHalf; ++n) {
      const int j = lower_token(kHalf, index + n);
      const Two d_k = level.at(1, index + n), d_b = kDplr ? level.at(1, kChunk / 2 + index + n) : Two{0.0f, 0.0f};
      add(d.at(Kind::kG, j), prefix);
      add(d.at(Kind::kK, j), d_k * f[n]);
      prefix = prefix + d_k * x.k(j) * f[n];
      if (kDplr) {
        add(d.at(Kind::kB, j), d_b * f[n]);
        prefix = prefix + d_b * x.b(j) * f[n];
      }
    }
  }
}

template <class Operand, bool kDplr, int kWidth, class Sums>
__device__ __forceinline__ void adjoint_of_level(int half, const Factored<Operand, kDplr, kWidth>& x,
                                                 const ChannelSums& level, Sums& d) {
  switch (half) {
    case 8: adjoint_of_level<8>(x, level, d); break;
    case 4: adjoint_of_level<4>(x, level, d); break;
    case 2: adjoint_of_level<2>(x, level, d); break;
    default: adjoint_of_level<1>(x, level, d);
  }
}

// From the gradient of the log-decay to that of the input g. Adds this element's contribution to `d_A_log`.
__device__ inline float adjoint_of_gate(const RecurrenceProblem& p, float rate, float x, float d_g, float& d_A_log) {
  if (p.gate == Gate::log_decay) return d_g;
  if (p.gate == Gate::softplus) {
    d_A_log -= d_g * rate * softplus(x);
    return -d_g * rate * sigmoid(x);
  }
  const float s = sigmoid(rate * x), d_x = d_g * p.lower_bound * s * (1.0f - s) * rate;
  d_A_log += d_x * x;
  return d_x;
}

}  // namespace klab::kernels::cuda
