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
  int64_t first_sequence;  // of block z = 0
  unsigned heads_per_key;  // HV / H
};

// One token's vectors, without the factors of q and k, and buffers for sums over warps. The state is read once: q reads
// the new state S' = e S + k x + b y as q S' = (q e) S + (q k) x + (q b) y.
struct TokenVectors {
  Two reads[kMaxHeadDim];   // row of the solve, and q e
  Two writes[kMaxHeadDim];  // e, k
  float b[kMaxHeadDim], v[kStepColumns];
  Four products[kStepWarps];  // q q, k k, q k, q b
  Four sums[kStepWarps][2][kColumnThreads];
};

struct At {
  int64_t row, token;
  int head, key_head;
};

// A thread's part of a token's inputs, loaded before any of them is used: one wait for device memory instead of one for
// each of them.
template <int kWidth>
struct TokenInputs {
  static constexpr int kCount = (kWidth + kStepThreads - 1) / kStepThreads;
  uint32_t q[kCount], k[kCount], g[kCount], a[kCount], b[kCount];  // bits of channels thread, thread + 128
  GateParameters gate[kCount];
  uint32_t v, beta;  // v: of column `thread` of the block

  // `first`: the block's first column.
  __device__ __forceinline__ void load(const Problem& p, const At& at, int first) {
    const int thread = static_cast<int>(threadIdx.x), K = static_cast<int>(p.K), V = static_cast<int>(p.V);
    const bool channels = p.decay == Decay::channel;
    const auto bits = [&](const Rows& rows, int head, int d) {
      const bool wide = rows.dtype == Dtype::float32;
      const int64_t at_byte = (rows.offset(at.row, at.token, head) + d) << (wide ? 2 : 1);
      return load_now(static_cast<const unsigned char*>(rows.data) + at_byte, wide);
    };
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      const int d = thread + n * kStepThreads;
      q[n] = k[n] = g[n] = a[n] = b[n] = 0;
      if (d >= K) continue;
      q[n] = bits(p.q, at.key_head, d);
      k[n] = bits(p.k, at.key_head, d);
      if (p.decay != Decay::none) g[n] = bits(p.g, at.head, channels ? d : 0);
      if (p.decay != Decay::none) gate[n] = gate_parameters(p, at.head, d);
      if (p.update == Update::dplr) {
        a[n] = bits(p.a, at.head, d);
        b[n] = bits(p.b, at.head, d);
      }
    }
    v = thread < kStepColumns && first + thread < V ? bits(p.v, at.head, first + thread) : 0;
    beta = p.update == Update::delta ? bits(p.beta, at.head, 0) : 0;
  }

  // Writes the token's vectors; zeros for channels from K on. The row of the solve is k e for the delta rule, a for
  // DPLR. The caller needs a barrier afterwards.
  __device__ __forceinline__ void write(const Problem& p, TokenVectors& t) const {
    const int thread = static_cast<int>(threadIdx.x);
    Four products{};
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      const int d = thread + n * kStepThreads;
      if (d >= kWidth) continue;
      const float of_q = number_of(q[n], p.q.dtype), of_k = number_of(k[n], p.k.dtype), x = number_of(g[n], p.g.dtype);
      float e = 0.0f, of_b = 0.0f;
      if (d < p.K) e = p.decay == Decay::none ? 1.0f : decay_of<true>(p, gate[n], {x, x}).x;
      float solve = of_k * e;
      if (p.update == Update::dplr) {
        solve = number_of(a[n], p.a.dtype);
        of_b = number_of(b[n], p.b.dtype);
        t.b[d] = of_b;
      }
      t.reads[d] = {solve, of_q * e};
      t.writes[d] = {e, of_k};
      products.x[0] += of_q * of_q;
      products.x[1] += of_k * of_k;
      products.x[2] += of_q * of_k;
      products.x[3] += of_q * of_b;
    }
    if (thread < kStepColumns) t.v[thread] = number_of(v, p.v.dtype);
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
#pragma unroll
      for (int n = 0; n < 4; ++n) products.x[n] += shuffle_xor(products.x[n], step);
    }
    if (lane() == 0) t.products[thread / kWarp] = products;
  }
};

template <int kWidth>
struct Step {
  static constexpr int kRows = kWidth / kRowThreads;

  static __device__ int row(int i) { return static_cast<int>(threadIdx.x) / kColumnThreads + i * kRowThreads; }
  static __device__ int column() { return static_cast<int>(threadIdx.x) % kColumnThreads * 4; }  // in the block

  // Whether every thread can move its whole part of a state with aligned loads and stores of four columns.
  static __device__ bool whole(const float* state, int K, int V, int first) {
    return K == kWidth && V % 4 == 0 && first + kStepColumns <= V && reinterpret_cast<uintptr_t>(state) % 16 == 0;
  }

  // Loads this thread's part of the columns of V from `first`.
  static __device__ void load(const float* from, int K, int V, int first, Four (&state)[kRows]) {
    if (from != nullptr && whole(from, K, V, first)) {
      const float* x = from + static_cast<int64_t>(row(0)) * V + first + column();
#pragma unroll
      for (int i = 0; i < kRows; ++i, x += kRowThreads * V) state[i] = *reinterpret_cast<const Four*>(x);
      return;
    }
    const int v = first + column();
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      state[i] = {};
      if (from == nullptr || row(i) >= K) continue;
      const float* x = from + static_cast<int64_t>(row(i)) * V + v;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        if (v + n < V) state[i].x[n] = x[n];
      }
    }
  }

  static __device__ void store(const Four (&state)[kRows], int K, int V, int first, float* to) {
    if (whole(to, K, V, first)) {
      float* x = to + static_cast<int64_t>(row(0)) * V + first + column();
#pragma unroll
      for (int i = 0; i < kRows; ++i, x += kRowThreads * V) *reinterpret_cast<Four*>(x) = state[i];
      return;
    }
    const int v = first + column();
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (row(i) >= K) continue;
      float* x = to + static_cast<int64_t>(row(i)) * V + v;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        if (v + n < V) x[n] = state[i].x[n];
      }
    }
  }

  // The sums over K of the state times the two vectors of `reads`, in this thread's columns.
  static __device__ void read(const Four (&state)[kRows], TokenVectors& t, Four (&sums)[2]) {
    sums[0] = sums[1] = {};
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const Two by = t.reads[row(i)];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        sums[0].x[n] += by.x * state[i].x[n];
        sums[1].x[n] += by.y * state[i].x[n];
      }
    }
    const int warp = static_cast<int>(threadIdx.x) / kWarp, thread = static_cast<int>(threadIdx.x) % kColumnThreads;
#pragma unroll
    for (int which = 0; which < 2; ++which) {
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        sums[which].x[n] += shuffle_xor(sums[which].x[n], 8);
        sums[which].x[n] += shuffle_xor(sums[which].x[n], 16);
      }
      if (lane() < kColumnThreads) t.sums[warp][which][thread] = sums[which];
    }
    block_barrier();
    sums[0] = sums[1] = {};
#pragma unroll
    for (int other = 0; other < kStepWarps; ++other) {
#pragma unroll
      for (int which = 0; which < 2; ++which) {
        const Four x = t.sums[other][which][thread];
#pragma unroll
        for (int n = 0; n < 4; ++n) sums[which].x[n] += x.x[n];
      }
    }
  }

  // Updates the state with one token and returns its output.
  static __device__ Four advance(const Problem& p, uint32_t beta_bits, Four (&state)[kRows], TokenVectors& t) {
    Four products{};
#pragma unroll
    for (int warp = 0; warp < kStepWarps; ++warp) {
#pragma unroll
      for (int n = 0; n < 4; ++n) products.x[n] += t.products[warp].x[n];
    }
    const float of_q = p.l2norm ? p.scale / sqrtf(products.x[0] + kL2Eps) : p.scale;
    const float of_k = p.l2norm ? 1.0f / sqrtf(products.x[1] + kL2Eps) : 1.0f;
    const bool dplr = p.update == Update::dplr;
    Four sums[2];
    read(state, t, sums);
    const float beta = p.update == Update::delta ? beta_of(p, number_of(beta_bits, p.beta.dtype)) : 1.0f;
    const float known = p.update == Update::delta ? of_k : 0.0f;
    Four value = *reinterpret_cast<const Four*>(t.v + column()), o;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      value.x[n] = of_k * beta * (value.x[n] - known * sums[0].x[n]);  // written with k, which has no factor
      o.x[n] = of_q * (sums[1].x[n] + products.x[2] * value.x[n] + (dplr ? products.x[3] * sums[0].x[n] : 0.0f));
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const Two by = t.writes[row(i)];
#pragma unroll
      for (int n = 0; n < 4; ++n) state[i].x[n] = by.x * state[i].x[n] + by.y * value.x[n];
      if (!dplr) continue;
      const float b = t.b[row(i)];
#pragma unroll
      for (int n = 0; n < 4; ++n) state[i].x[n] += b * sums[0].x[n];
    }
    return o;
  }
};

// `kOne`: every sequence has one token. The launch bounds keep enough blocks per SM resident to saturate memory
// bandwidth, as far as registers allow without spilling: the loop over tokens keeps its offsets in them.
template <int kWidth, bool kOne>
__global__ void __launch_bounds__(kStepThreads, (kWidth <= 128 ? 2 : 1) * (kOne ? 3 : 2))
    step_kernel(const StepTask task) {
  using S = Step<kWidth>;
  const Problem& p = task.p;
  const int K = static_cast<int>(p.K), V = static_cast<int>(p.V), first = static_cast<int>(blockIdx.x) * kStepColumns;
  const int head = static_cast<int>(blockIdx.y);
  const int64_t sequence = task.first_sequence + blockIdx.z, row = sequence * p.HV + head;
  TokenVectors& t = *reinterpret_cast<TokenVectors*>(shared_memory());
  const SequenceSpan span = kOne ? SequenceSpan{sequence, 0, 1} : span_of(p.sequences, sequence);

  TokenInputs<kWidth> inputs;
  const auto at = [&](int64_t i) {
    return At{span.row, span.start + i, head, static_cast<int>(blockIdx.y / task.heads_per_key)};
  };
  if (span.length > 0) inputs.load(p, at(0), first);
  Four state[S::kRows];
  S::load(p.initial_state == nullptr ? nullptr : p.initial_state + row * K * V, K, V, first, state);
  for (int64_t i = 0; i < span.length; ++i) {
    if (i > 0) block_barrier();  // all threads are done with the vectors of the previous token
    inputs.write(p, t);
    block_barrier();
    const Four o = S::advance(p, inputs.beta, state, t);
    if (i + 1 < span.length) inputs.load(p, at(i + 1), first);
    if (threadIdx.x < kColumnThreads) {
      const int v = first + S::column();
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        if (v + n < V)
          store_number(task.o.data, task.o.dtype, task.o.offset(span.row, span.start + i, head) + v + n, o.x[n]);
      }
    }
    if (task.all_states != nullptr) {
      const int64_t snapshot = (sequence * p.sequences.tokens + i) * p.HV + head;
      S::store(state, K, V, first, task.all_states + snapshot * K * V);
    }
  }
  if (task.final_state != nullptr) S::store(state, K, V, first, task.final_state + row * K * V);
}

}  // namespace klab::kernels::cuda
