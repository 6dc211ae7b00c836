// SPDX-License-Identifier: Apache-2.0
// One task is a sequence and a block of channels. It keeps a ring buffer (window) of the last W rows. Positions include
// the state: 0 .. W - 2 are the rows of the initial state, W - 1 + t is token t. A position's slot in the window is the
// position modulo W.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/short_conv/cpu/short_conv.cpp"
#include "kernels/common/cpu/targets.h"
// Must come before the headers that are compiled once per instruction set:
#include "hwy/foreach_target.h"
#include "kernels/common/cpu/simd-inl.h"
#include "kernels/common/cpu/workers.h"
#include "kernels/short_conv/cpu/short_conv.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kBlock = 256;  // channels per task: windows stay in the L1 cache

struct Window {
  HWY_ALIGN_MAX float slots[kMostTaps][kBlock];
};

struct Block {
  const ShortConvProblem& p;
  int64_t sequence, first, width, padded;  // channels [first, first + width)
  int64_t token(int64_t t) const {
    const Sequence& s = p.sequences[static_cast<size_t>(sequence)];
    return s.start + t;
  }
  int64_t row() const { return p.sequences[static_cast<size_t>(sequence)].row; }
  int64_t length() const { return p.sequences[static_cast<size_t>(sequence)].length; }
};

// The weights and the bias of a block's channels, zero-padded.
struct Taps {
  HWY_ALIGN_MAX float weight[kMostTaps][kBlock];
  float bias[kBlock];
};

void load_taps(const Block& b, Taps& taps) {
  std::memset(&taps, 0, sizeof(taps));
  const size_t bytes = static_cast<size_t>(b.width) * sizeof(float);
  for (int64_t w = 0; w < b.p.W; ++w) std::memcpy(taps.weight[w], b.p.weight + w * b.p.D + b.first, bytes);
  if (b.p.bias != nullptr) std::memcpy(taps.bias, b.p.bias + b.first, bytes);
}

void load_state(const Block& b, Window& x) {
  for (int64_t j = 0; j + 1 < b.p.W; ++j) {
    const Rows& state = b.p.initial_state;
    if (state) {
      load_row(state, state.offset(b.sequence, j, 0) + b.first, b.width, b.padded, x.slots[j]);
    } else {
      std::memset(x.slots[j], 0, sizeof(x.slots[j]));
    }
  }
}

// kTaps: W if it is known at compile time, else 0.
template <int kTaps>
HWY_INLINE Vec before_activation(const Block& b, const Taps& taps, const Window& x, int64_t t, int64_t d) {
  const int64_t W = kTaps > 0 ? kTaps : b.p.W;
  Vec sum = load(taps.bias + d);
  for (int64_t w = 0; w < W; ++w) sum = hn::MulAdd(load(taps.weight[w] + d), load(x.slots[(t + w) % W] + d), sum);
  return sum;
}

template <int kTaps>
void forward_block(const Block& b, const MutableRows& y, const MutableRows& final_state) {
  const int64_t W = kTaps > 0 ? kTaps : b.p.W;
  Taps taps;
  load_taps(b, taps);
  Window x;
  HWY_ALIGN_MAX float out[kBlock];
  load_state(b, x);
  for (int64_t t = 0; t < b.length(); ++t) {
    load_row(b.p.x, b.p.x.offset(b.row(), b.token(t), 0) + b.first, b.width, b.padded, x.slots[(t + W - 1) % W]);
    for (int64_t d = 0; d < b.padded; d += kLanes) {
      Vec sum = before_activation<kTaps>(b, taps, x, t, d);
      if (b.p.silu) sum = hn::Mul(sum, sigmoid(sum));
      store(sum, out + d);
    }
    store_row(out, b.width, y, y.offset(b.row(), b.token(t), 0) + b.first);
  }
  for (int64_t j = 0; j + 1 < W; ++j) {
    store_row(x.slots[(b.length() + j) % W], b.width, final_state, final_state.offset(b.sequence, j, 0) + b.first);
  }
}

// Writes a position's complete gradient, to the initial state or to x.
void store_position(const Block& b, const ShortConvGradients& out, int64_t position, const float* gradient) {
  const int64_t state_rows = b.p.W - 1;
  if (position >= state_rows) {
    const int64_t offset = out.x.offset(b.row(), b.token(position - state_rows), 0) + b.first;
    store_row(gradient, b.width, out.x, offset);
  } else if (out.initial_state) {
    const int64_t offset = out.initial_state.offset(b.sequence, position, 0) + b.first;
    store_row(gradient, b.width, out.initial_state, offset);
  }
}

template <int kTaps>
void backward_block(const Block& b, const Rows& d_y, const Rows& d_final_state, const ShortConvGradients& out) {
  const int64_t W = kTaps > 0 ? kTaps : b.p.W;
  Taps taps, d_taps;
  load_taps(b, taps);
  std::memset(&d_taps, 0, sizeof(d_taps));
  Window x, d_x;
  std::memset(&d_x, 0, sizeof(d_x));
  HWY_ALIGN_MAX float gradient[kBlock];
  load_state(b, x);
  for (int64_t t = 0; t < b.length(); ++t) {
    const int64_t newest = (t + W - 1) % W;
    load_row(b.p.x, b.p.x.offset(b.row(), b.token(t), 0) + b.first, b.width, b.padded, x.slots[newest]);
    load_row(d_y, d_y.offset(b.row(), b.token(t), 0) + b.first, b.width, b.padded, gradient);
    for (int64_t d = 0; d < b.padded; d += kLanes) {
      Vec g = load(gradient + d);
      if (b.p.silu) {  // (z s)' = s (1 + z (1 - s))
        const Vec z = before_activation<kTaps>(b, taps, x, t, d), s = sigmoid(z), one = broadcast(1.0f);
        g = hn::Mul(g, hn::Mul(s, hn::MulAdd(z, hn::Sub(one, s), one)));
      }
      store(hn::Add(load(d_taps.bias + d), g), d_taps.bias + d);
      store(zero(), d_x.slots[newest] + d);
      for (int64_t w = 0; w < W; ++w) {
        const int64_t slot = (t + w) % W;
        store(hn::MulAdd(g, load(x.slots[slot] + d), load(d_taps.weight[w] + d)), d_taps.weight[w] + d);
        store(hn::MulAdd(g, load(taps.weight[w] + d), load(d_x.slots[slot] + d)), d_x.slots[slot] + d);
      }
    }
    store_position(b, out, t, d_x.slots[t % W]);
  }
  for (int64_t j = 0; j + 1 < W; ++j) {  // rows of the final state
    float* last = d_x.slots[(b.length() + j) % W];
    if (d_final_state) {
      load_row(d_final_state, d_final_state.offset(b.sequence, j, 0) + b.first, b.width, b.padded, gradient);
      for (int64_t d = 0; d < b.padded; d += kLanes) store(hn::Add(load(last + d), load(gradient + d)), last + d);
    }
    store_position(b, out, b.length() + j, last);
  }
  const size_t bytes = static_cast<size_t>(b.width) * sizeof(float);
  for (int64_t w = 0; w < W; ++w) {
    std::memcpy(out.weight + (b.sequence * W + w) * b.p.D + b.first, d_taps.weight[w], bytes);
  }
  if (out.bias != nullptr) std::memcpy(out.bias + b.sequence * b.p.D + b.first, d_taps.bias, bytes);
}

template <typename Work>
void for_blocks(const ShortConvProblem& p, const Work& work) {
  const int64_t blocks = (p.D + kBlock - 1) / kBlock;
  run_tasks(static_cast<int64_t>(p.sequences.size()) * blocks, [&](int64_t i) {
    const int64_t first = i % blocks * kBlock, width = HWY_MIN(kBlock, p.D - first);
    work(Block{p, i / blocks, first, width, (width + kLanes - 1) / kLanes * kLanes});
  });
}

}  // namespace

void short_conv_forward(const ShortConvProblem& p, const MutableRows& y, const MutableRows& final_state) {
  for_blocks(
      p, [&](const Block& b) { p.W == 4 ? forward_block<4>(b, y, final_state) : forward_block<0>(b, y, final_state); });
}

void short_conv_backward(const ShortConvProblem& p, const Rows& d_y, const Rows& d_final_state,
                         const ShortConvGradients& out) {
  for_blocks(p, [&](const Block& b) {
    p.W == 4 ? backward_block<4>(b, d_y, d_final_state, out) : backward_block<0>(b, d_y, d_final_state, out);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace klab::kernels::cpu {

HWY_EXPORT(short_conv_forward);
HWY_EXPORT(short_conv_backward);

void short_conv_forward(const ShortConvProblem& problem, const MutableRows& y, const MutableRows& final_state) {
  HWY_DYNAMIC_DISPATCH(short_conv_forward)(problem, y, final_state);
}

void short_conv_backward(const ShortConvProblem& problem, const Rows& d_y, const Rows& d_final_state,
                         const ShortConvGradients& gradients) {
  HWY_DYNAMIC_DISPATCH(short_conv_backward)(problem, d_y, d_final_state, gradients);
}

}  // namespace klab::kernels::cpu
#endif
