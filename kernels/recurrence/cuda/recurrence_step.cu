// SPDX-License-Identifier: Apache-2.0
// The recurrence token by token, for a few tokens per sequence (decode), with the state in registers. Memory-bound: the
// states are read and written once, for any number of tokens.
//
// A block holds all K rows of 32 columns of one state: thread (r, c) of 16 x 8 holds rows r, r + 16, .. of four
// columns.
#include "kernels/recurrence/cuda/chunk.cuh"
#include "kernels/recurrence/cuda/forward_plan.h"

namespace klab::kernels::cuda {
namespace {

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

// Loads the token's vectors, scaled and L2-normalised. `solve` is the decayed k for the delta rule, and a for DPLR. The
// caller needs a barrier afterwards.
__device__ void load_token(const Problem& p, const At& at, TokenVectors& t) {
  const int K = static_cast<int>(p.K), thread = static_cast<int>(threadIdx.x);
  const auto number = [&](const Rows& rows, int64_t head, int d) {
    return load_number(rows.data, rows.dtype, rows.offset(at.row, at.token, head) + d);
  };
  float q_squares = 0.0f, k_squares = 0.0f;
  for (int d = thread; d < K; d += kStepThreads) {
    const float q = number(p.q, at.key_head, d), k = number(p.k, at.key_head, d);
    q_squares += q * q;
    k_squares += k * k;
    t.q[d] = q;
    t.k[d] = k;
    float e = 1.0f;
    if (p.decay != Decay::none) {
      const bool channel = p.decay == Decay::channel;
      const GateParameters gate = gate_parameters(p, static_cast<int>(at.head), d);
      const float g = number(p.g, at.head, channel ? d : 0);
      e = decay_of<true>(p, gate, {g, g}).x;
    }
    t.e[d] = e;
    if (p.update == Update::dplr) {
      t.solve[d] = number(p.a, at.head, d);
      t.b[d] = number(p.b, at.head, d);
    }
  }
  float q_factor = p.scale, k_factor = 1.0f;
  if (p.l2norm) {
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
      q_squares += shuffle_xor(q_squares, step);
      k_squares += shuffle_xor(k_squares, step);
    }
    if (lane() == 0) {
      t.norms[thread / kWarp][0] = q_squares;
      t.norms[thread / kWarp][1] = k_squares;
    }
    block_barrier();
    q_squares = k_squares = 0.0f;
    for (int warp = 0; warp < kStepWarps; ++warp) {
      q_squares += t.norms[warp][0];
      k_squares += t.norms[warp][1];
    }
    q_factor /= sqrtf(q_squares + kL2Eps);
    k_factor /= sqrtf(k_squares + kL2Eps);
  }
  for (int d = thread; d < K; d += kStepThreads) {
    t.q[d] *= q_factor;
    t.k[d] *= k_factor;
    if (p.update == Update::delta) t.solve[d] = t.k[d] * t.e[d];
  }
}

// Sums x over all row threads; every thread gets the sums of its four columns.
__device__ Four sum_rows(Four x, TokenVectors& t) {
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
  static __device__ Four advance(const Problem& p, const At& at, int column, Four (&state)[kRows], TokenVectors& t) {
    const int K = static_cast<int>(p.K);
    Four value{}, corrected{};
    for (int n = 0; n < 4; ++n) {
      const int64_t from = p.v.offset(at.row, at.token, at.head) + column + n;
      value.x[n] = column + n < p.V ? load_number(p.v.data, p.v.dtype, from) : 0.0f;
    }
    if (p.update != Update::accumulate) corrected = read(state, t.solve, K, t);
    if (p.update == Update::delta) {
      const float beta = beta_of(p, load_number(p.beta.data, p.beta.dtype, p.beta.offset(at.row, at.token, at.head)));
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

  Four state[S::kRows];
  const float* from = p.initial_state == nullptr || column >= V ? nullptr : p.initial_state + row * K * V;
  S::load(from, K, V, column, whole && aligned_to_16(p.initial_state), state);
  for (int64_t i = 0; i < span.length; ++i) {
    const At at{span.row, span.start + i, head, head / (p.HV / p.H)};
    block_barrier();  // all threads are done with the vectors of the previous token
    load_token(p, at, t);
    block_barrier();
    const Four o = S::advance(p, at, column, state, t);
    if (threadIdx.x < kColumnThreads) {
      for (int n = 0; n < 4; ++n) {
        if (column + n < V)
          store_number(task.o.data, task.o.dtype, task.o.offset(at.row, at.token, head) + column + n, o.x[n]);
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

}  // namespace

void recurrence_step(const Problem& p, const MutableRows& o, float* final_state, float* all_states, void* stream) {
  record_step_plan();
  const StepTask task{p, o, final_state, all_states};
  const int64_t blocks = p.sequences.count * p.HV * ((p.V + kStepColumns - 1) / kStepColumns);
  const auto kernel = p.K <= 64 ? step_kernel<64> : p.K <= 128 ? step_kernel<128> : step_kernel<256>;
  launch(kernel, dim3(static_cast<unsigned>(blocks)), kStepThreads, sizeof(TokenVectors), static_cast<Stream>(stream),
         task);
}

}  // namespace klab::kernels::cuda
