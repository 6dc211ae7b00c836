// SPDX-License-Identifier: Apache-2.0
// Each thread handles four channels, keeps their parameters in registers and loops over tokens.
#include "kernels/kda_gate/cuda/kda_gate.h"

#include "kernels/common/cuda/activations.cuh"
#include "kernels/common/cuda/quad.cuh"
#include "kernels/common/cuda/sum.h"

namespace klab::kernels::cuda {
namespace {

constexpr int kGateThreads = 128;
constexpr int kTokensAtOnce = 2;  // tokens that a thread loads before it uses the first
constexpr int kBlocksPerMultiprocessor = 8;

// Threads across the channels (a power of two) and along the tokens.
struct GateGrid {
  int across;
  int64_t blocks_across, blocks_along;

  constexpr int along() const { return kGateThreads / across; }
  // The number of threads that share the same channels and divide the tokens among them.
  constexpr int64_t walks() const { return blocks_along * along(); }
};

struct GateTask {
  KdaGateProblem p;
  GateGrid grid{};
  bool whole = false;          // quads of all rows are aligned
  float* g = nullptr;          // forward pass only
  const float* d_g = nullptr;  // this and the following: backward pass only
  void* d_raw = nullptr;
  float* parts = nullptr;  // partial sums of d_parameters, [walks, 2, H, K], or null
};

struct GateChannels {
  Quad rate, bias;
};

struct Gated {
  float g, d_x, d_A_log;  // the gate and its derivatives
};

__device__ Gated gate(const KdaGateProblem& p, float raw, float rate, float bias) {
  const float x = raw + bias;
  if (!p.bounded) {
    const float g = -rate * softplus(x);
    return {g, -rate * sigmoid(x), g};
  }
  const float s = sigmoid(rate * x), slope = p.lower_bound * s * sigmoid(-rate * x);
  return {p.lower_bound * s, slope * rate, slope * rate * x};
}

// The tokens of a thread, first + n step, and its channels.
struct Walk {
  int channel;  // the first of four
  int64_t first, step;

  __device__ explicit Walk(const GateGrid& grid) {
    const int thread = static_cast<int>(threadIdx.x);
    channel = (static_cast<int>(blockIdx.x) * grid.across + thread % grid.across) * 4;
    first = static_cast<int64_t>(blockIdx.y) * grid.along() + thread / grid.across;
    step = grid.walks();
  }
};

__device__ GateChannels load_channels(const KdaGateProblem& p, int first) {
  const int width = static_cast<int>(p.width()), K = static_cast<int>(p.K);
  GateChannels c{{{1.0f, 1.0f, 1.0f, 1.0f}}, {}};
  for (int n = 0; n < 4 && first + n < width; ++n) {
    if (p.A_log != nullptr) c.rate.x[n] = expf(p.A_log[(first + n) / K]);
    if (p.dt_bias != nullptr) c.bias.x[n] = p.dt_bias[first + n];
  }
  return c;
}

template <Dtype kDtype>
__global__ void __launch_bounds__(kGateThreads) forward_kernel(const GateTask task) {
  const KdaGateProblem& p = task.p;
  const int width = static_cast<int>(p.width());
  const Walk walk(task.grid);
  if (walk.channel >= width) return;
  const GateChannels c = load_channels(p, walk.channel);
  for (int64_t first = walk.first; first < p.tokens; first += walk.step * kTokensAtOnce) {
    QuadBits<kDtype> raw[kTokensAtOnce];
#pragma unroll
    for (int i = 0; i < kTokensAtOnce; ++i) {
      const int64_t token = first + i * walk.step;
      if (token < p.tokens) {
        raw[i] = load_quad<kDtype>(row_of<kDtype>(p.raw, token, width), walk.channel, width, task.whole);
      }
    }
#pragma unroll
    for (int i = 0; i < kTokensAtOnce; ++i) {
      const int64_t token = first + i * walk.step;
      if (token >= p.tokens) break;
      const Quad x = raw[i].widen();
      Quad g;
#pragma unroll
      for (int n = 0; n < 4; ++n) g.x[n] = gate(p, x.x[n], c.rate.x[n], c.bias.x[n]).g;
      store_quad<Dtype::float32>(task.g + token * width, walk.channel, width, task.whole, g);
    }
  }
}

template <Dtype kDtype>
__global__ void __launch_bounds__(kGateThreads) backward_kernel(const GateTask task) {
  const KdaGateProblem& p = task.p;
  const int width = static_cast<int>(p.width());
  const Walk walk(task.grid);
  if (walk.channel >= width) return;
  const GateChannels c = load_channels(p, walk.channel);
  Quad d_bias{}, d_A_log{};
  for (int64_t first = walk.first; first < p.tokens; first += walk.step * kTokensAtOnce) {
    QuadBits<kDtype> raw[kTokensAtOnce];
    QuadBits<Dtype::float32> d_g[kTokensAtOnce];
#pragma unroll
    for (int i = 0; i < kTokensAtOnce; ++i) {
      const int64_t token = first + i * walk.step;
      if (token < p.tokens) {
        raw[i] = load_quad<kDtype>(row_of<kDtype>(p.raw, token, width), walk.channel, width, task.whole);
        d_g[i] = load_quad<Dtype::float32>(task.d_g + token * width, walk.channel, width, task.whole);
      }
    }
#pragma unroll
    for (int i = 0; i < kTokensAtOnce; ++i) {
      const int64_t token = first + i * walk.step;
      if (token >= p.tokens) break;
      const Quad x = raw[i].widen(), d = d_g[i].widen();
      Quad d_x;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const Gated gated = gate(p, x.x[n], c.rate.x[n], c.bias.x[n]);
        d_x.x[n] = d.x[n] * gated.d_x;
        d_bias.x[n] += d_x.x[n];
        d_A_log.x[n] += d.x[n] * gated.d_A_log;
      }
      store_quad<kDtype>(row_of<kDtype>(task.d_raw, token, width), walk.channel, width, task.whole, d_x);
    }
  }
  if (task.parts == nullptr) return;
  float* const part = task.parts + walk.first * 2 * width;
  store_quad<Dtype::float32>(part, walk.channel, width, task.whole, d_bias);
  store_quad<Dtype::float32>(part + width, walk.channel, width, task.whole, d_A_log);
}

GateGrid grid_of(const KdaGateProblem& p) {
  const int64_t quads = (p.width() + 3) / 4;
  GateGrid grid{1, 0, 0};
  while (grid.across < kGateThreads && grid.across < quads) grid.across *= 2;
  grid.blocks_across = (quads + grid.across - 1) / grid.across;
  const int64_t per_block = static_cast<int64_t>(grid.along()) * kTokensAtOnce;
  const int64_t wanted = (p.tokens + per_block - 1) / per_block;
  const int64_t most = (multiprocessors() * kBlocksPerMultiprocessor + grid.blocks_across - 1) / grid.blocks_across;
  grid.blocks_along = wanted < most ? wanted : most;
  return grid;
}

void run(GateTask task, bool backward, void* stream) {
  const KdaGateProblem& p = task.p;
  const auto whole = [&](const void* data, Dtype dtype) { return quads_are_whole(data, dtype, p.width(), 0); };
  task.grid = grid_of(p);
  task.whole = whole(p.raw, p.dtype) && whole(task.g, Dtype::float32) && whole(task.d_g, Dtype::float32) &&
               whole(task.d_raw, p.dtype) && whole(task.parts, Dtype::float32);
  const auto kernel = [&] {
    switch (p.dtype) {
      case Dtype::float32: return backward ? backward_kernel<Dtype::float32> : forward_kernel<Dtype::float32>;
      case Dtype::bfloat16: return backward ? backward_kernel<Dtype::bfloat16> : forward_kernel<Dtype::bfloat16>;
      default: return backward ? backward_kernel<Dtype::float16> : forward_kernel<Dtype::float16>;
    }
  }();
  launch(kernel, dim3(static_cast<unsigned>(task.grid.blocks_across), static_cast<unsigned>(task.grid.blocks_along)),
         kGateThreads, 0, static_cast<Stream>(stream), task);
}

}  // namespace

void kda_gate_forward(const KdaGateProblem& p, float* g, void* stream) {
  if (p.tokens > 0 && p.width() > 0) run({.p = p, .g = g}, false, stream);
}

void kda_gate_backward(const KdaGateProblem& p, const float* d_g, void* d_raw, float* d_parameters, void* workspace,
                       void* stream) {
  auto* const parts = d_parameters != nullptr ? static_cast<float*>(workspace) : nullptr;
  if (p.tokens > 0 && p.width() > 0) run({.p = p, .d_g = d_g, .d_raw = d_raw, .parts = parts}, true, stream);
  if (d_parameters != nullptr) sum_parts(parts, grid_of(p).walks(), 2 * p.width(), d_parameters, stream);
}

size_t kda_gate_backward_workspace(const KdaGateProblem& p) {
  return static_cast<size_t>(grid_of(p).walks() * 2 * p.width()) * sizeof(float);
}

}  // namespace klab::kernels::cuda
