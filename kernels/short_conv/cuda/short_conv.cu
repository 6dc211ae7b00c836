// SPDX-License-Identifier: Apache-2.0
// Each thread handles four channels along a run of tokens, with a sliding window of inputs in registers. Every element
// is read once, except the few tokens before a run and, in the backward pass, after it. Runs split the rows of the
// batch independently of sequence boundaries: a thread looks these up and restarts its window at every sequence.
#include "kernels/short_conv/cuda/short_conv.h"

#include "kernels/common/cuda/activations.cuh"
#include "kernels/common/cuda/quad.cuh"
#include "kernels/common/cuda/sum.h"

namespace klab::kernels::cuda {
namespace {

constexpr int kConvThreads = 128, kConvChannels = kConvThreads * 4;
constexpr int64_t kShortestRun = 8, kLongestRun = 128, kBlocksPerMultiprocessor = 8;

// The division of the batch's rows into runs.
struct Runs {
  int64_t tokens, per_row, count;
  int64_t blocks_across;
};

struct ConvTask {
  ShortConvProblem p;
  Runs runs{};
  bool whole = false;              // quads of all rows are aligned
  MutableRows y{}, final_state{};  // forward pass only
  Rows d_y{}, d_final_state{};     // this and the following: backward pass only
  ShortConvGradients d{};
  float* parts = nullptr;  // partial sums of d.parameters, [runs, W + 1, D]
};

// The intersection of a run with a sequence: positions [first, last) of the sequence.
struct Segment {
  int64_t sequence;
  SequenceSpan span;
  int64_t first, last;
};

// The first sequence that begins at `token`, or else the sequence that contains it.
__device__ int64_t sequence_at(const Sequences& s, int64_t token) {
  int64_t low = 0, high = s.count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (s.offsets[middle] < token) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return s.offsets[low] == token ? low : low - 1;
}

// Empty sequences belong to the run that contains their offset, those at the end of all tokens to the last run.
template <class Walk>
__device__ void for_each_segment(const ConvTask& task, int64_t run, const Walk& walk) {
  const Sequences& s = task.p.sequences;
  const int64_t row = run / task.runs.per_row, first = run % task.runs.per_row * task.runs.tokens;
  const int64_t last = first + task.runs.tokens < s.tokens ? first + task.runs.tokens : s.tokens;
  if (s.offsets == nullptr) {
    walk(Segment{row, span_of(s, row), first, last});
    return;
  }
  for (int64_t sequence = sequence_at(s, first); sequence < s.count; ++sequence) {
    const SequenceSpan span = span_of(s, sequence);
    if (span.start >= last && last < s.tokens) return;
    const int64_t token = span.start < first ? first : span.start, end = span.start + span.length;
    walk(Segment{sequence, span, token - span.start, (end < last ? end : last) - span.start});
  }
}

// The taps of one thread's channels. kTaps >= W; the first `missing` taps are unused.
template <Dtype kDtype, int kTaps>
struct Taps {
  using Bits = QuadBits<kDtype>;
  static constexpr int kLast = kTaps - 1;
  static constexpr int kAtOnce = kTaps <= 4 ? 4 : 2;  // tokens that are loaded before the first is used

  const ConvTask& task;
  const ShortConvProblem& p = task.p;
  int width = static_cast<int>(task.p.D), missing = kTaps - static_cast<int>(task.p.W), channel;
  Quad weight[kTaps], bias;

  __device__ Taps(const ConvTask& task_, int channel_) : task(task_), channel(channel_), weight{}, bias{} {
    for (int n = 0; n < 4 && channel + n < width; ++n) {
      const int64_t from = static_cast<int64_t>(channel + n) * p.W - missing;
#pragma unroll
      for (int j = 0; j < kTaps; ++j) {
        if (j >= missing) weight[j].x[n] = load_number(p.weight.data, p.weight.dtype, from + j);
      }
      if (p.bias) bias.x[n] = load_number(p.bias.data, p.bias.dtype, channel + n);
    }
  }

  __device__ Bits load(const Rows& rows, int64_t row, int64_t token) const {
    return load_quad<kDtype>(row_of<kDtype>(rows.data, 1, rows.offset(row, token, 0)), channel, width, task.whole);
  }
  __device__ void store(const MutableRows& rows, int64_t row, int64_t token, const Quad& q) const {
    store_quad<kDtype>(row_of<kDtype>(rows.data, 1, rows.offset(row, token, 0)), channel, width, task.whole, q);
  }

  // The input at a position before the segment: from x, or from the initial state if the position is negative.
  __device__ Quad before(const Segment& s, int64_t position) const {
    if (position >= 0) return load(p.x, s.span.row, s.span.start + position).widen();
    const int64_t kept = position + p.W - 1;
    Quad q{};
    if (!p.initial_state || kept < 0) return q;
    if (p.initial_state.dtype == kDtype) return load(p.initial_state, s.sequence, kept).widen();
    const int64_t from = p.initial_state.offset(s.sequence, kept, 0) + channel;
    for (int n = 0; n < 4 && channel + n < width; ++n) {
      q.x[n] = load_number(p.initial_state.data, p.initial_state.dtype, from + n);
    }
    return q;
  }

  // Fills the window of inputs before the segment's first token.
  __device__ void begin(const Segment& s, Quad (&inputs)[kTaps]) const {
    inputs[0] = {};
#pragma unroll
    for (int j = 1; j < kTaps; ++j) inputs[j] = before(s, s.first - kTaps + j);
  }

  static __device__ void push(Quad (&window)[kTaps], const Quad& next) {
#pragma unroll
    for (int j = 0; j < kLast; ++j) window[j] = window[j + 1];
    window[kLast] = next;
  }

  __device__ Quad sum(const Quad (&inputs)[kTaps]) const {
    Quad total = bias;
#pragma unroll
    for (int j = 0; j < kTaps; ++j) {
      if (j < missing) continue;
#pragma unroll
      for (int n = 0; n < 4; ++n) total.x[n] += weight[j].x[n] * inputs[j].x[n];
    }
    return total;
  }
};

// The block's run and the thread's channels.
struct Share {
  int64_t run;
  int channel;

  __device__ explicit Share(const Runs& runs) {
    run = blockIdx.x / runs.blocks_across;
    channel = static_cast<int>(blockIdx.x % runs.blocks_across) * kConvChannels + static_cast<int>(threadIdx.x) * 4;
  }
};

template <Dtype kDtype, int kTaps>
__device__ void walk_forward(const Taps<kDtype, kTaps>& taps, const Segment& s) {
  constexpr int kAtOnce = Taps<kDtype, kTaps>::kAtOnce;
  const ConvTask& task = taps.task;
  Quad inputs[kTaps];
  taps.begin(s, inputs);
  for (int64_t first = s.first; first < s.last; first += kAtOnce) {
    QuadBits<kDtype> x[kAtOnce] = {};
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (first + i < s.last) x[i] = taps.load(task.p.x, s.span.row, s.span.start + first + i);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (first + i >= s.last) break;
      taps.push(inputs, x[i].widen());
      Quad y = taps.sum(inputs);
      if (task.p.silu) {
#pragma unroll
        for (int n = 0; n < 4; ++n) y.x[n] *= sigmoid<kDtype == Dtype::float32>(y.x[n]);
      }
      taps.store(task.y, s.span.row, s.span.start + first + i, y);
    }
  }
  if (s.last < s.span.length) return;
#pragma unroll
  for (int j = 1; j < kTaps; ++j) {
    if (j > taps.missing) taps.store(task.final_state, s.sequence, j - taps.missing - 1, inputs[j]);
  }
}

template <Dtype kDtype, int kTaps>
__global__ void __launch_bounds__(kConvThreads) forward_kernel(const ConvTask task) {
  const Share share(task.runs);
  if (share.channel >= task.p.D) return;
  const Taps<kDtype, kTaps> taps(task, share.channel);
  for_each_segment(task, share.run, [&](const Segment& s) { walk_forward(taps, s); });
}

// The backward pass also processes tokens in forward order: an input's gradient is complete kTaps - 1 tokens later,
// after the gradients of all sums that contain it. Those of the tokens after the segment are recomputed.
template <Dtype kDtype, int kTaps>
struct Backward {
  using T = Taps<kDtype, kTaps>;
  const T& taps;
  const ConvTask& task = taps.task;
  Quad d_weight[kTaps] = {}, d_bias = {};

  // The gradient of the sum (before the activation) of the newest token.
  __device__ Quad through(const Quad (&inputs)[kTaps], const Quad& d_y) const {
    if (!task.p.silu) return d_y;
    const Quad sum = taps.sum(inputs);
    Quad d;
#pragma unroll
    for (int n = 0; n < 4; ++n)
      d.x[n] = d_y.x[n] * silu_derivative(sum.x[n], sigmoid<kDtype == Dtype::float32>(sum.x[n]));
    return d;
  }

  __device__ void collect(const Quad (&inputs)[kTaps], const Quad& d_sum) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      d_bias.x[n] += d_sum.x[n];
#pragma unroll
      for (int j = 0; j < kTaps; ++j) d_weight[j].x[n] += d_sum.x[n] * inputs[j].x[n];
    }
  }

  // Writes the gradient of the input at `position`, from those of the sums of the tokens `position` .. `position` +
  // kTaps - 1.
  __device__ void write_input(const Segment& s, int64_t position, const Quad (&d_sums)[kTaps]) const {
    const int64_t kept = position + task.p.W - 1, last = position - s.span.length + task.p.W - 1;
    if (kept < 0 || (position < 0 && !task.d.initial_state)) return;
    Quad d{};
    if (last >= 0 && task.d_final_state) d = taps.load(task.d_final_state, s.sequence, last).widen();
#pragma unroll
    for (int j = 0; j < kTaps; ++j) {
      if (j < taps.missing) continue;
#pragma unroll
      for (int n = 0; n < 4; ++n) d.x[n] += taps.weight[j].x[n] * d_sums[T::kLast - j].x[n];
    }
    if (position >= 0) {
      taps.store(task.d.x, s.span.row, s.span.start + position, d);
      return;
    }
    const MutableRows& state = task.d.initial_state;
    const int64_t to = state.offset(s.sequence, kept, 0) + taps.channel;
    for (int n = 0; n < 4 && taps.channel + n < taps.width; ++n) store_number(state.data, state.dtype, to + n, d.x[n]);
  }

  __device__ void walk(const Segment& s) {
    Quad inputs[kTaps], d_sums[kTaps] = {};
    taps.begin(s, inputs);
    const int64_t end = s.last + T::kLast;
    for (int64_t first = s.first; first < end; first += T::kAtOnce) {
      QuadBits<kDtype> x[T::kAtOnce] = {}, d_y[T::kAtOnce] = {};
#pragma unroll
      for (int i = 0; i < T::kAtOnce; ++i) {
        if (first + i >= end || first + i >= s.span.length) continue;
        x[i] = taps.load(task.p.x, s.span.row, s.span.start + first + i);
        d_y[i] = taps.load(task.d_y, s.span.row, s.span.start + first + i);
      }
#pragma unroll
      for (int i = 0; i < T::kAtOnce; ++i) {
        const int64_t position = first + i, complete = position - T::kLast;
        if (position >= end) break;
        taps.push(inputs, x[i].widen());
        taps.push(d_sums, through(inputs, d_y[i].widen()));
        if (position < s.last) collect(inputs, d_sums[T::kLast]);
        if (complete >= s.first || s.first == 0) write_input(s, complete, d_sums);
      }
    }
  }

  __device__ void write_part(int64_t run) const {
    float* const part = task.parts + run * (task.p.W + 1) * task.p.D;
    const auto write = [&](int64_t row, const Quad& q) {
      store_quad<Dtype::float32>(part + row * task.p.D, taps.channel, taps.width, task.whole, q);
    };
#pragma unroll
    for (int j = 0; j < kTaps; ++j) {
      if (j >= taps.missing) write(j - taps.missing, d_weight[j]);
    }
    write(task.p.W, d_bias);
  }
};

template <Dtype kDtype, int kTaps>
__global__ void __launch_bounds__(kConvThreads) backward_kernel(const ConvTask task) {
  const Share share(task.runs);
  if (share.channel >= task.p.D) return;
  const Taps<kDtype, kTaps> taps(task, share.channel);
  Backward<kDtype, kTaps> backward{taps};
  for_each_segment(task, share.run, [&](const Segment& s) { backward.walk(s); });
  backward.write_part(share.run);
}

using ConvKernel = void (*)(ConvTask);

template <Dtype kDtype>
ConvKernel kernel_of(int64_t W, bool backward) {
  if (W <= 4) return backward ? backward_kernel<kDtype, 4> : forward_kernel<kDtype, 4>;
  return backward ? backward_kernel<kDtype, kMostConvTaps> : forward_kernel<kDtype, kMostConvTaps>;
}

ConvKernel kernel_of(Dtype dtype, int64_t W, bool backward) {
  switch (dtype) {
    case Dtype::float32: return kernel_of<Dtype::float32>(W, backward);
    case Dtype::bfloat16: return kernel_of<Dtype::bfloat16>(W, backward);
    default: return kernel_of<Dtype::float16>(W, backward);
  }
}

// Runs are short enough to fill the device and long enough that the extra tokens around a run cost little.
Runs cut(const ShortConvProblem& p) {
  Runs runs{};
  runs.blocks_across = (p.D + kConvChannels - 1) / kConvChannels;
  const int64_t T = p.sequences.tokens, blocks = multiprocessors() * kBlocksPerMultiprocessor;
  const int64_t wanted = p.B * T * runs.blocks_across / blocks;
  runs.tokens = wanted < kShortestRun ? kShortestRun : wanted < kLongestRun ? wanted : kLongestRun;
  runs.per_row = (T + runs.tokens - 1) / runs.tokens;
  runs.count = p.B * runs.per_row;
  return runs;
}

bool all_whole(const ConvTask& task) {
  const ShortConvProblem& p = task.p;
  const auto whole = [&](const auto& rows) {
    return quads_are_whole(rows.data, rows.dtype, p.D, rows.batch) &&
           quads_are_whole(rows.data, rows.dtype, p.D, rows.token);
  };
  return whole(p.x) && whole(p.initial_state) && whole(task.y) && whole(task.final_state) && whole(task.d_y) &&
         whole(task.d_final_state) && whole(task.d.x) && quads_are_whole(task.parts, Dtype::float32, p.D, 0);
}

void run(ConvTask task, bool backward, void* stream) {
  task.runs = cut(task.p);
  task.whole = all_whole(task);
  if (task.runs.count == 0 || task.p.D == 0) return;
  launch(kernel_of(task.p.x.dtype, task.p.W, backward),
         dim3(static_cast<unsigned>(task.runs.count * task.runs.blocks_across)), kConvThreads, 0,
         static_cast<Stream>(stream), task);
}

}  // namespace

void short_conv_forward(const ShortConvProblem& p, const MutableRows& y, const MutableRows& final_state, void* stream) {
  run({.p = p, .y = y, .final_state = final_state}, false, stream);
}

void short_conv_backward(const ShortConvProblem& p, const Rows& d_y, const Rows& d_final_state,
                         const ShortConvGradients& d, void* workspace, void* stream) {
  auto* const parts = static_cast<float*>(workspace);
  run({.p = p, .d_y = d_y, .d_final_state = d_final_state, .d = d, .parts = parts}, true, stream);
  sum_parts(parts, cut(p).count, (p.W + 1) * p.D, d.parameters, stream);
}

size_t short_conv_backward_workspace(const ShortConvProblem& p) {
  return static_cast<size_t>(cut(p).count * (p.W + 1) * p.D) * sizeof(float);
}

}  // namespace klab::kernels::cuda
