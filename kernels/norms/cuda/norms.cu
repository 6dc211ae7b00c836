// SPDX-License-Identifier: Apache-2.0
// One warp per row for rows up to 256 wide (as heads are), else one block per row: x is read once and kept in registers
// between the sum and the scaling, so forward and backward run at memory bandwidth. Rows that do not fit the registers
// of a block are split into panels, one per block, and each block reads the whole row for the sums.
#include "kernels/norms/cuda/norms.h"

#include "kernels/common/cuda/activations.cuh"
#include "kernels/common/cuda/quad.cuh"
#include "kernels/common/cuda/sum.h"

namespace klab::kernels::cuda {
namespace {

constexpr int kNormWarps = 8, kNormThreads = kNormWarps * kWarp;
constexpr int kBlocksPerMultiprocessor = 4;  // in the backward pass, whose blocks loop over rows

struct NormTask {
  NormProblem p;
  MutableRows y{};  // forward pass only
  Rows d_y{};       // this, d and parts: backward pass only
  NormGradients d{};
  float* parts = nullptr;  // partial sums of d.weight, [blocks, D], or null
  bool whole = false;      // quads of all rows are aligned
};

// The distribution of a row over threads.
template <int kRowWarps>
struct Lie {
  static constexpr int kKept = kRowWarps == 1 ? 2 : 4;  // quads per thread
  static constexpr int kThreads = kRowWarps * kWarp, kStep = kThreads * 4, kPanel = kStep * kKept;
  static constexpr int kRows = kNormWarps / kRowWarps;  // per block

  static __device__ int thread() { return static_cast<int>(threadIdx.x) % kThreads; }
  static __device__ int64_t first_row() {
    return static_cast<int64_t>(blockIdx.x) * kRows + static_cast<int>(threadIdx.x) / kThreads;
  }
  // First column of this thread's i-th quad in the panel.
  static __device__ int column(int i) { return static_cast<int>(blockIdx.y) * kPanel + i * kStep + thread() * 4; }

  // Calls `take` with the columns of this thread's quads in other panels.
  template <class Take>
  static __device__ void elsewhere(int width, const Take& take) {
    if (width <= kPanel) return;
    for (int at = thread() * 4; at < width; at += kStep) {
      if (at / kPanel != static_cast<int>(blockIdx.y)) take(at);
    }
  }

  // The sum over a row's threads, returned to all of them.
  static __device__ float sum(float x) {
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) x += shuffle_xor(x, step);
    if constexpr (kRowWarps > 1) {
      float* shares = reinterpret_cast<float*>(shared_memory());
      if (lane() == 0) shares[threadIdx.x / kWarp] = x;
      block_barrier();
      x = 0.0f;
      for (int warp = 0; warp < kRowWarps; ++warp) x += shares[warp];
      block_barrier();
    }
    return x;
  }
};

__device__ float reciprocal_size(const NormProblem& p, float squares) {
  return rsqrtf((p.mean ? squares / static_cast<float>(p.D) : squares) + p.eps);
}

__device__ Quad load_weight(const NormTask& task, int at) {
  if (task.p.weight == nullptr) return {{1.0f, 1.0f, 1.0f, 1.0f}};
  return load_quad<Dtype::float32>(task.p.weight, at, static_cast<int>(task.p.D), task.whole).widen();
}

// activation(gate) and its derivative.
struct Activated {
  float value, slope;
};

template <Dtype kDtype>
__device__ Activated activate(GateActivation activation, float gate) {
  if (activation == GateActivation::none) return {1.0f, 0.0f};
  const float s = sigmoid<kDtype == Dtype::float32>(gate);
  if (activation == GateActivation::sigmoid) return {s, s * (1.0f - s)};
  return {gate * s, silu_derivative(gate, s)};
}

__device__ float dot(const Quad& x, const Quad& y) {
  float sum = 0.0f;
#pragma unroll
  for (int n = 0; n < 4; ++n) sum += x.x[n] * y.x[n];
  return sum;
}

template <Dtype kDtype, int kRowWarps>
__global__ void __launch_bounds__(kNormThreads) forward_kernel(const NormTask task) {
  using L = Lie<kRowWarps>;
  const NormProblem& p = task.p;
  const int width = static_cast<int>(p.D);
  const int64_t row = L::first_row();
  if (row >= p.rows) return;  // the same for all threads of a row
  const void* const x_row = row_of<kDtype>(p.x.data, row, p.x.batch);
  const void* const gate_row = row_of<kDtype>(p.gate.data, row, p.gate.batch);
  void* const y_row = row_of<kDtype>(task.y.data, row, task.y.batch);

  QuadBits<kDtype> x[L::kKept], gate[L::kKept] = {};
#pragma unroll
  for (int i = 0; i < L::kKept; ++i) {
    x[i] = load_quad<kDtype>(x_row, L::column(i), width, task.whole);
    if (p.gate) gate[i] = load_quad<kDtype>(gate_row, L::column(i), width, task.whole);
  }
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < L::kKept; ++i) squares += dot(x[i].widen(), x[i].widen());
  L::elsewhere(width, [&](int at) {
    const Quad other = load_quad<kDtype>(x_row, at, width, task.whole).widen();
    squares += dot(other, other);
  });
  const float scale = reciprocal_size(p, L::sum(squares));
#pragma unroll
  for (int i = 0; i < L::kKept; ++i) {
    if (L::column(i) >= width) break;
    const Quad weight = load_weight(task, L::column(i)), given = x[i].widen(), gates = gate[i].widen();
    Quad y;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      y.x[n] = given.x[n] * scale * weight.x[n] * activate<kDtype>(p.activation, gates.x[n]).value;
    }
    store_quad<kDtype>(y_row, L::column(i), width, task.whole, y);
  }
}

// With n = x scale and u = d_y weight activation(gate), the gradient of n: d_x = scale (u - n m(u n)), m the mean or
// the sum, d_gate = d_y n weight slope, and d_weight sums d_y n activation(gate) over rows.
template <Dtype kDtype, int kRowWarps>
struct Backward {
  using L = Lie<kRowWarps>;
  using Bits = QuadBits<kDtype>;

  const NormTask& task;
  const NormProblem& p = task.p;
  int width = static_cast<int>(task.p.D);

  struct RowAt {
    const void *x, *gate, *d_y;
  };

  __device__ RowAt at(int64_t row) const {
    return {row_of<kDtype>(p.x.data, row, p.x.batch), row_of<kDtype>(p.gate.data, row, p.gate.batch),
            row_of<kDtype>(task.d_y.data, row, task.d_y.batch)};
  }

  __device__ Bits load(const void* row, int column) const { return load_quad<kDtype>(row, column, width, task.whole); }

  // u: the gradient of the normalised row.
  __device__ Quad through(const Quad& d_y, const Quad& gate, int column) const {
    const Quad weight = load_weight(task, column);
    Quad u;
#pragma unroll
    for (int n = 0; n < 4; ++n) u.x[n] = d_y.x[n] * weight.x[n] * activate<kDtype>(p.activation, gate.x[n]).value;
    return u;
  }

  __device__ void walk_row(int64_t row, Quad (&d_weight)[L::kKept]) const {
    const RowAt from = at(row);
    Bits x[L::kKept], gate[L::kKept] = {}, d_y[L::kKept];
#pragma unroll
    for (int i = 0; i < L::kKept; ++i) {
      x[i] = load(from.x, L::column(i));
      d_y[i] = load(from.d_y, L::column(i));
      if (p.gate) gate[i] = load(from.gate, L::column(i));
    }
    float squares = 0.0f, along = 0.0f;
#pragma unroll
    for (int i = 0; i < L::kKept; ++i) {
      squares += dot(x[i].widen(), x[i].widen());
      along += dot(x[i].widen(), through(d_y[i].widen(), gate[i].widen(), L::column(i)));
    }
    L::elsewhere(width, [&](int column) {
      const Quad other = load(from.x, column).widen(), others_gate = p.gate ? load(from.gate, column).widen() : Quad{};
      squares += dot(other, other);
      along += dot(other, through(load(from.d_y, column).widen(), others_gate, column));
    });
    const float scale = reciprocal_size(p, L::sum(squares));
    const float back = L::sum(along) * scale * scale / (p.mean ? static_cast<float>(p.D) : 1.0f);
#pragma unroll
    for (int i = 0; i < L::kKept; ++i) {
      if (L::column(i) >= width) break;
      write(row, L::column(i), x[i].widen(), gate[i].widen(), d_y[i].widen(), scale, back, d_weight[i]);
    }
  }

  __device__ void write(int64_t row, int column, const Quad& x, const Quad& gate, const Quad& d_y, float scale,
                        float back, Quad& d_weight) const {
    const Quad weight = load_weight(task, column);
    Quad d_x, d_gate;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const Activated a = activate<kDtype>(p.activation, gate.x[n]);
      const float normed = x.x[n] * scale;
      d_x.x[n] = scale * (d_y.x[n] * weight.x[n] * a.value - x.x[n] * back);
      d_gate.x[n] = d_y.x[n] * normed * weight.x[n] * a.slope;
      d_weight.x[n] += d_y.x[n] * normed * a.value;
    }
    store_quad<kDtype>(row_of<kDtype>(task.d.x.data, row, task.d.x.batch), column, width, task.whole, d_x);
    if (!task.d.gate) return;
    store_quad<kDtype>(row_of<kDtype>(task.d.gate.data, row, task.d.gate.batch), column, width, task.whole, d_gate);
  }

  // Writes the block's partial sum of the weight's gradient.
  __device__ void write_part(const Quad (&d_weight)[L::kKept]) const {
    float* const part = task.parts + static_cast<int64_t>(blockIdx.x) * p.D;
    if constexpr (kRowWarps > 1) {
#pragma unroll
      for (int i = 0; i < L::kKept; ++i) {
        store_quad<Dtype::float32>(part, L::column(i), width, task.whole, d_weight[i]);
      }
    } else {
      float* shares = reinterpret_cast<float*>(shared_memory());  // [kNormWarps, kPanel]
#pragma unroll
      for (int i = 0; i < L::kKept; ++i) {
        store_quad<Dtype::float32>(shares + threadIdx.x / kWarp * L::kPanel, L::column(i), L::kPanel, true,
                                   d_weight[i]);
      }
      block_barrier();
      for (int column = static_cast<int>(threadIdx.x); column < width; column += kNormThreads) {
        float sum = 0.0f;
        for (int warp = 0; warp < kNormWarps; ++warp) sum += shares[warp * L::kPanel + column];
        part[column] = sum;
      }
    }
  }
};

template <Dtype kDtype, int kRowWarps>
__global__ void __launch_bounds__(kNormThreads) backward_kernel(const NormTask task) {
  using B = Backward<kDtype, kRowWarps>;
  const B backward{task};
  Quad d_weight[B::L::kKept] = {};
  const int64_t step = static_cast<int64_t>(gridDim.x) * B::L::kRows;
  for (int64_t row = B::L::first_row(); row < task.p.rows; row += step) backward.walk_row(row, d_weight);
  if (task.parts != nullptr) backward.write_part(d_weight);
}

using NormKernel = void (*)(NormTask);

template <int kRowWarps>
NormKernel kernel_of(Dtype dtype, bool backward) {
  switch (dtype) {
    case Dtype::float32:
      return backward ? backward_kernel<Dtype::float32, kRowWarps> : forward_kernel<Dtype::float32, kRowWarps>;
    case Dtype::bfloat16:
      return backward ? backward_kernel<Dtype::bfloat16, kRowWarps> : forward_kernel<Dtype::bfloat16, kRowWarps>;
    default: return backward ? backward_kernel<Dtype::float16, kRowWarps> : forward_kernel<Dtype::float16, kRowWarps>;
  }
}

struct NormLaunch {
  bool row_per_warp;
  int64_t blocks, panels;
};

NormLaunch launch_of(const NormProblem& p, bool backward) {
  const bool row_per_warp = p.D <= Lie<1>::kPanel;
  const int64_t rows = row_per_warp ? Lie<1>::kRows : 1,
                panel = row_per_warp ? Lie<1>::kPanel : Lie<kNormWarps>::kPanel;
  const int64_t blocks = (p.rows + rows - 1) / rows, most = multiprocessors() * kBlocksPerMultiprocessor;
  return {row_per_warp, backward && blocks > most ? most : blocks, (p.D + panel - 1) / panel};
}

bool all_whole(const NormTask& task) {
  const NormProblem& p = task.p;
  const auto whole = [&](const auto& rows) { return quads_are_whole(rows.data, rows.dtype, p.D, rows.batch); };
  return whole(p.x) && whole(p.gate) && whole(task.y) && whole(task.d_y) && whole(task.d.x) && whole(task.d.gate) &&
         quads_are_whole(p.weight, Dtype::float32, p.D, 0) && quads_are_whole(task.parts, Dtype::float32, p.D, 0);
}

void run(NormTask task, bool backward, void* stream) {
  task.whole = all_whole(task);
  const NormLaunch l = launch_of(task.p, backward);
  const Dtype dtype = task.p.x.dtype;
  launch(l.row_per_warp ? kernel_of<1>(dtype, backward) : kernel_of<kNormWarps>(dtype, backward),
         dim3(static_cast<unsigned>(l.blocks), static_cast<unsigned>(l.panels)), kNormThreads,
         kNormWarps * (backward && l.row_per_warp ? Lie<1>::kPanel : 1) * sizeof(float), static_cast<Stream>(stream),
         task);
}

}  // namespace

void norm_forward(const NormProblem& p, const MutableRows& y, void* stream) {
  if (p.rows > 0 && p.D > 0) run({.p = p, .y = y}, false, stream);
}

void norm_backward(const NormProblem& p, const Rows& d_y, const NormGradients& d, void* workspace, void* stream) {
  if (p.D == 0) return;
  const bool weighted = d.weight != nullptr;
  auto* const parts = weighted ? static_cast<float*>(workspace) : nullptr;
  if (p.rows > 0) run({.p = p, .d_y = d_y, .d = d, .parts = parts}, true, stream);
  if (weighted) sum_parts(parts, launch_of(p, true).blocks, p.D, d.weight, stream);
}

size_t norm_backward_workspace(const NormProblem& p) {
  return static_cast<size_t>(launch_of(p, true).blocks * p.D) * sizeof(float);
}

}  // namespace klab::kernels::cuda
