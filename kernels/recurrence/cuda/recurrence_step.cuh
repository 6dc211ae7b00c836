// SPDX-License-Identifier: Apache-2.0
// The recurrence token by token, for a few tokens per sequence (decode), with the state in registers. Memory-bound: the
// states are read and written once, for any number of tokens.
//
// A block holds all K rows of 32 columns of one state: thread (r, c) of 16 x 8 holds rows r, r + 16, .. of four
// columns.
#pragma once

#include "kernels/recurrence/cuda/chunk.cuh"

namespace klab::kernels::cuda {

constexpr int kStepColumns = 32, kStepThreads = 128, kStepWarps = kStepThreads / kWarp;
constexpr int kRowThreads = 16, kColumnThreads = 8;

struct StepTask {
  Problem p;
  MutableRows o;
  float *final_state, *all_states;
};

// One token's vectors, and buffers for reductions between warps.
struct TokenVectors {
  float q[kMaxHeadDim], k[kMaxHeadDim], solve[kMaxHeadDim], b[kMaxHeadDim], e[kMaxHeadDim];
  float norms[kStepWarps][2];
  float sums[kStepWarps][kStepColumns];
};

struct At {
  int64_t row, token, head, key_head;
};

// A thread's part of a token's inputs, loaded before any of them is used: one wait for device memory instead of one for
// each of them.
template <int kWidth>
struct TokenInputs {
  static constexpr int kCount = (kWidth + kStepThreads - 1) / kStepThreads;
  uint32_t q[kCount], k[kCount], g[kCount], a[kCount], b[kCount];  // bits of channels thread, thread + 128
  GateParameters gate[kCount];
  uint32_t v[4], beta;

  __device__ __forceinline__ void load(const Problem& p, const At& at, int column) {
    const int K = static_cast<int>(p.K), V = static_cast<int>(p.V);
    const bool channels = p.decay == Decay::channel;
    const auto bits = [&](const Rows& rows, int64_t head, int d) {
      return load_bits(rows.data, rows.dtype, rows.offset(at.row, at.token, head) + d);
    };
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      const int d = static_cast<int>(threadIdx.x) + n * kStepThreads;
      q[n] = k[n] = g[n] = a[n] = b[n] = 0;
      if (d >= K) continue;
      q[n] = bits(p.q, at.key_head, d);
      k[n] = bits(p.k, at.key_head, d);
      if (p.decay != Decay::none) g[n] = bits(p.g, at.head, channels ? d : 0);
      if (p.decay != Decay::none) gate[n] = gate_parameters(p, static_cast<int>(at.head), d);
      if (p.update == Update::dplr) {
        a[n] = bits(p.a, at.head, d);
        b[n] = bits(p.b, at.head, d);
      }
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) v[n] = column + n < V ? bits(p.v, at.head, column + n) : 0;
    beta = p.update == Update::delta ? bits(p.beta, at.head, 0) : 0;
  }

  // Writes the token's vectors, scaled and L2-normalised. `solve` is the decayed k for the delta rule, and a for DPLR.
  // The caller needs a barrier afterwards.
  __device__ __forceinline__ void write(const Problem& p, TokenVectors& t) const {
    const int thread = static_cast<int>(threadIdx.x);
    float factors[2] = {0.0f, 0.0f};  // of q and k; first the sums of squares
    float of_q[kCount], of_k[kCount];
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      of_q[n] = number_of(q[n], p.q.dtype);
      of_k[n] = number_of(k[n], p.k.dtype);
      factors[0] += of_q[n] * of_q[n];
      factors[1] += of_k[n] * of_k[n];
    }
    find_factors(p, t, factors);
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      const int d = thread + n * kStepThreads;
      if (d >= p.K) continue;
      const float x = number_of(g[n], p.g.dtype);
      const float e = p.decay == Decay::none ? 1.0f : decay_of<true>(p, gate[n], {x, x}).x;
      t.e[d] = e;
      t.q[d] = of_q[n] * factors[0];
      t.k[d] = of_k[n] * factors[1];
      if (p.update == Update::delta) t.solve[d] = t.k[d] * e;
      if (p.update != Update::dplr) continue;
      t.solve[d] = number_of(a[n], p.a.dtype);
      t.b[d] = number_of(b[n], p.b.dtype);
    }
  }

  // From the sums of squares of this thread's channels to the factors of q and k.
  static __device__ __forceinline__ void find_factors(const Problem& p, TokenVectors& t, float (&factors)[2]) {
    if (!p.l2norm) {
      factors[0] = p.scale;
      factors[1] = 1.0f;
      return;
    }
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
      factors[0] += shuffle_xor(factors[0], step);
      factors[1] += shuffle_xor(factors[1], step);
    }
    if (lane() == 0) {
      t.norms[threadIdx.x / kWarp][0] = factors[0];
      t.norms[threadIdx.x / kWarp][1] = factors[1];
    }
    block_barrier();
    factors[0] = factors[1] = kL2Eps;
    for (int warp = 0; warp < kStepWarps; ++warp) {
      factors[0] += t.norms[warp][0];
      factors[1] += t.norms[warp][1];
    }
    factors[0] = p.scale / sqrtf(factors[0]);
    factors[1] = 1.0f / sqrtf(factors[1]);
  }
};

// Sums x over all row threads; every thread gets the sums of its four columns.
__device__ inline Four sum_rows(Four x, TokenVectors& t) {
  const int thread = static_cast<int>(threadIdx.x), column = thread % kColumnThreads * 4;
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    x.x[n] += shuffle_xor(x.x[n], 8);
    x.x[n] += shuffle_xor(x.x[n], 16);
  }
  if (lane() < kColumnThreads) {
#pragma unroll
    for (int n = 0; n < 4; ++n) t.sums[thread / kWarp][column + n] = x.x[n];
  }
  block_barrier();
  Four sum{};
  for (int warp = 0; warp < kStepWarps; ++warp) {
#pragma unroll
    for (int n = 0; n < 4; ++n) sum.x[n] += t.sums[warp][column + n];
  }
  block_barrier();
  return sum;
}

template <int kWidth>
struct Step {
  static constexpr int kRows = kWidth / kRowThreads;

  static __device__ int row(int i) { return static_cast<int>(threadIdx.x) / kColumnThreads + i * kRowThreads; }

  // Loads this thread's part of the state. `whole`: four columns with one aligned load.
  static __device__ void load(const float* from, int K, int V, int column, bool whole, Four (&state)[kRows]) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      state[i] = {};
      if (from == nullptr || row(i) >= K) continue;
      const float* x = from + static_cast<int64_t>(row(i)) * V + column;
      if (whole) {
        state[i] = *reinterpret_cast<const Four*>(x);
      } else {
        for (int n = 0; n < 4; ++n) state[i].x[n] = column + n < V ? x[n] : 0.0f;
      }
    }
  }

  static __device__ void store(const Four (&state)[kRows], int K, int V, int column, bool whole, float* to) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (row(i) >= K) continue;
      float* x = to + static_cast<int64_t>(row(i)) * V + column;
      if (whole) {
        *reinterpret_cast<Four*>(x) = state[i];
      } else {
        for (int n = 0; n < 4; ++n) {
          if (column + n < V) x[n] = state[i].x[n];
        }
      }
    }
  }

  static __device__ Four read(const Four (&state)[kRows], const float* with, int K, TokenVectors& t) {
    Four sum{};
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const float x = row(i) < K ? with[row(i)] : 0.0f;
#pragma unroll
      for (int n = 0; n < 4; ++n) sum.x[n] += x * state[i].x[n];
    }
    return sum_rows(sum, t);
  }

  // Updates the state with one token and returns its output.
  static __device__ Four advance(const Problem& p, const TokenInputs<kWidth>& inputs, Four (&state)[kRows],
                                 TokenVectors& t) {
    const int K = static_cast<int>(p.K);
    Four value{}, corrected{};
    for (int n = 0; n < 4; ++n) value.x[n] = number_of(inputs.v[n], p.v.dtype);
    if (p.update != Update::accumulate) corrected = read(state, t.solve, K, t);
    if (p.update == Update::delta) {
      const float beta = beta_of(p, number_of(inputs.beta, p.beta.dtype));
      for (int n = 0; n < 4; ++n) value.x[n] = beta * (value.x[n] - corrected.x[n]);
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (row(i) >= K) continue;
      const float e = t.e[row(i)], k = t.k[row(i)], b = p.update == Update::dplr ? t.b[row(i)] : 0.0f;
#pragma unroll
      for (int n = 0; n < 4; ++n) state[i].x[n] = e * state[i].x[n] + k * value.x[n] + b * corrected.x[n];
    }
    return read(state, t.q, K, t);
  }
};

// The launch bounds keep enough blocks per SM resident to saturate memory bandwidth.
template <int kWidth>
__global__ void __launch_bounds__(kStepThreads, kWidth <= 128 ? 4 : 2) step_kernel(const StepTask task) {
  using S = Step<kWidth>;
  const Problem& p = task.p;
  const int K = static_cast<int>(p.K), V = static_cast<int>(p.V), blocks = (V + kStepColumns - 1) / kStepColumns;
  const int64_t row = static_cast<int64_t>(blockIdx.x) / blocks, sequence = row / p.HV, head = row % p.HV;
  const int column =
      static_cast<int>(blockIdx.x) % blocks * kStepColumns + static_cast<int>(threadIdx.x) % kColumnThreads * 4;
  TokenVectors& t = *reinterpret_cast<TokenVectors*>(shared_memory());
  const SequenceSpan span = span_of(p.sequences, sequence);
  const bool whole = V % 4 == 0 && column < V;
  const auto aligned_to_16 = [](const void* x) { return reinterpret_cast<uintptr_t>(x) % 16 == 0; };

  TokenInputs<kWidth> inputs;
  const auto at = [&](int64_t i) { return At{span.row, span.start + i, head, head / (p.HV / p.H)}; };
  if (span.length > 0) inputs.load(p, at(0), column);
  Four state[S::kRows];
  const float* from = p.initial_state == nullptr || column >= V ? nullptr : p.initial_state + row * K * V;
  S::load(from, K, V, column, whole && aligned_to_16(p.initial_state), state);
  for (int64_t i = 0; i < span.length; ++i) {
    block_barrier();  // all threads are done with the vectors of the previous token
    inputs.write(p, t);
    block_barrier();
    const Four o = S::advance(p, inputs, state, t);
    if (i + 1 < span.length) inputs.load(p, at(i + 1), column);
    if (threadIdx.x < kColumnThreads) {
      for (int n = 0; n < 4; ++n) {
        if (column + n < V)
          store_number(task.o.data, task.o.dtype, task.o.offset(span.row, span.start + i, head) + column + n, o.x[n]);
      }
    }
    if (task.all_states != nullptr && column < V) {
      const int64_t snapshot = (sequence * p.sequences.tokens + i) * p.HV + head;
      S::store(state, K, V, column, whole && aligned_to_16(task.all_states), task.all_states + snapshot * K * V);
    }
  }
  if (task.final_state != nullptr && column < V) {
    S::store(state, K, V, column, whole && aligned_to_16(task.final_state), task.final_state + row * K * V);
  }
}

}  // namespace klab::kernels::cuda
