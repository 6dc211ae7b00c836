// SPDX-License-Identifier: Apache-2.0
// The backward pass of one chunk in two steps: gradients_of_values() from the gradient of the state after the chunk,
// then gradients_of_inputs() from these and the state before it. The columns of V are independent in the first one.
#if defined(KLAB_KERNELS_CPU_CHUNK_GRADIENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KLAB_KERNELS_CPU_CHUNK_GRADIENTS_INL_H_
#undef KLAB_KERNELS_CPU_CHUNK_GRADIENTS_INL_H_
#else
#define KLAB_KERNELS_CPU_CHUNK_GRADIENTS_INL_H_
#endif

#include "kernels/recurrence/cpu/adjoint-inl.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// A backward pass of all of V or of a slice of it.
struct Task {
  const Problem& p;
  Rows d_o;
  const float* d_final_state;
  Kept kept;
  const Gradients& out;
  const std::vector<int64_t>& segments;
  Widths w;
};

// Gradients of a head's gate parameters, summed over tokens.
struct HeadSums {
  HWY_ALIGN_MAX float dt_bias[kMaxHeadDim];
  float A_log;
};

struct Workspace {
  Chunk c;
  Adjoint d;
  HeadSums sums;
};

Rows corrections(const Task& t) {
  const int64_t token = t.p.HV * t.p.state_width;
  const int64_t batch = t.d_o.batch / t.d_o.token * t.p.writes * token;  // d_o is contiguous
  return {t.kept.corrections, batch, token, t.p.state_width, Dtype::float32};
}

// Restores the values written with the columns from what the forward pass kept.
template <Update kUpdate>
void load_values(const Task& t, const Place& at, Chunk& c) {
  const Problem& p = t.p;
  if (kUpdate != Update::delta) load_rows(p.v, at, at.head, p.V, t.w.V, c.values[0]);
  if (kUpdate == Update::dplr) load_rows(corrections(t), at, at.head, p.V, t.w.V, c.values[1]);
  if (kUpdate != Update::delta) return;
  load_rows(corrections(t), at, at.head, p.V, t.w.V, c.reads[0]);
  for (int64_t i = 0; i < kChunk; ++i) {
    for (int64_t n = 0; n < t.w.V; n += kLanes) {
      store(hn::Mul(broadcast(c.beta[i]), load(c.reads[0][i] + n)), c.values[0][i] + n);
    }
  }
}

// The gradient of a solve row's read, from that of the value that it corrects.
template <Update kUpdate>
HWY_INLINE Vec gradient_of_read(const Chunk& c, int64_t i, Vec d_value) {
  return kUpdate == Update::delta ? hn::Neg(hn::Mul(broadcast(c.beta[i]), d_value)) : d_value;
}

// Inputs: d.reads[1], the gradient of o, and d.values, the gradient of the written values through the state. Results:
// d.values, their whole gradient, and d.reads[0], that of the solve rows' reads. One pass over the columns
// [from, from + kVecs kLanes) of V, from the last token to the first.
template <Update kUpdate, int kVecs>
void adjoint_of_correction(const Chunk& c, Adjoint& d, int64_t from) {
  using S = Shape<kUpdate>;
  for (int64_t i = kChunk; i-- > 0;) {
    Vec values[S::kColumns][kVecs];
    for (int column = 0; column < S::kColumns; ++column) {
      HWY_UNROLL(8)
      for (int n = 0; n < kVecs; ++n) values[column][n] = load(d.values[column][i] + from + n * kLanes);
      for (int64_t m = i; m < kChunk; ++m) {
        const Vec query = broadcast(c.pairs[1][column][m][i]);
        HWY_UNROLL(8)
        for (int n = 0; n < kVecs; ++n) {
          values[column][n] = hn::MulAdd(query, load(d.reads[1][m] + from + n * kLanes), values[column][n]);
        }
      }
      for (int64_t m = i + 1; kUpdate != Update::accumulate && m < kChunk; ++m) {
        const Vec solve = broadcast(c.pairs[0][column][m][i]);
        HWY_UNROLL(8)
        for (int n = 0; n < kVecs; ++n) {
          values[column][n] = hn::MulAdd(solve, load(d.reads[0][m] + from + n * kLanes), values[column][n]);
        }
      }
    }
    HWY_UNROLL(8)
    for (int n = 0; n < kVecs; ++n) {
      const int64_t at = from + n * kLanes;
      for (int column = 0; column < S::kColumns; ++column) store(values[column][n], d.values[column][i] + at);
      if (kUpdate != Update::accumulate) {
        store(gradient_of_read<kUpdate>(c, i, values[S::kColumns - 1][n]), d.reads[0][i] + at);
      }
    }
  }
}

template <Update kUpdate>
void adjoint_of_correction(const Widths& w, const Chunk& c, Adjoint& d) {
  constexpr int kMost = kUpdate == Update::dplr ? kRowVecs / 2 : kRowVecs;
  int64_t n = 0;
  for (; n + kMost <= w.value_vecs; n += kMost) adjoint_of_correction<kUpdate, kMost>(c, d, n * kLanes);
  for (; n < w.value_vecs; n += 2) adjoint_of_correction<kUpdate, 2>(c, d, n * kLanes);
}

void gradient_of_beta(const Widths& w, const Chunk& c, Adjoint& d) {
  for (int64_t i = 0; i < kChunk; ++i) {
    Vec total = zero();
    for (int64_t n = 0; n < w.V; n += kLanes) {
      total = hn::MulAdd(load(d.values[0][i] + n), load(c.reads[0][i] + n), total);
    }
    d.beta[i] = sum(total);
  }
}

// The gradient of the chunk's decay: the sum over V of the state before the chunk times the gradient of the state
// after.
void adjoint_of_state_decay(const Widths& w, const float* state, const float* d_state, Adjoint& d) {
  for (int64_t k = 0; k < w.K; k += 4) {
    Vec acc[4];
    HWY_UNROLL(4)
    for (int r = 0; r < 4; ++r) {
      acc[r] = zero();
      for (int64_t column = 0; column < w.V; column += kPanel) {
        const int64_t row = column * w.K + (k + r) * kPanel;
        acc[r] = hn::MulAdd(load(state + row), load(d_state + row), acc[r]);
        acc[r] = hn::MulAdd(load(state + row + kLanes), load(d_state + row + kLanes), acc[r]);
      }
    }
    store_sums(acc[0], acc[1], acc[2], acc[3], d.decay + k);
  }
}

// --- Writing gradients out --------------------------------------------------------------------------------------

// Replaces the gradient of x scale / |x| in d_x by that of x. `normed` is x scale / |x|, `norm` is 1 / |x|.
void adjoint_of_scale(bool normed_here, const float* normed, float norm, float scale, int64_t padded, float* d_x) {
  float factor = scale, along = 0;
  if (normed_here) {
    Vec dot = zero();
    for (int64_t n = 0; n < padded; n += kLanes) dot = hn::MulAdd(load(normed + n), load(d_x + n), dot);
    factor = scale * norm;
    along = scale == 0 ? 0 : sum(dot) * norm / scale;
  }
  for (int64_t n = 0; n < padded; n += kLanes) {
    store(hn::Sub(hn::Mul(broadcast(factor), load(d_x + n)), hn::Mul(broadcast(along), load(normed + n))), d_x + n);
  }
}

// Backward of the gate for one row of `width` raw values: replaces the gradient of g in `d_g` by that of the raw
// values.
void adjoint_of_gate(const Problem& p, const GateParameters& gate, const float* raw, int64_t width, int64_t padded,
                     float* d_g, HeadSums& sums) {
  const Vec rate = broadcast(gate.rate), one = broadcast(1.0f);
  Vec of_A_log = zero();
  for (int64_t n = 0; n < padded && n < width; n += kLanes) {
    const Vec inside = hn::IfThenElseZero(hn::FirstN(kFloats, static_cast<size_t>(width - n)), load(d_g + n));
    const Vec x = gate.bias == nullptr ? load(raw + n) : hn::Add(load(raw + n), bias_at(gate.bias, n, width));
    Vec d_x;
    if (p.gate == Gate::softplus) {
      d_x = hn::Neg(hn::Mul(hn::Mul(rate, sigmoid(x)), inside));
      of_A_log = hn::NegMulAdd(hn::Mul(rate, softplus(x)), inside, of_A_log);
    } else {
      const Vec small = exp(hn::Neg(hn::Abs(hn::Mul(rate, x)))), whole = hn::Add(one, small);
      const Vec slope = hn::Div(small, hn::Mul(whole, whole));  // of the sigmoid
      d_x = hn::Mul(hn::Mul(hn::Mul(broadcast(p.lower_bound), slope), rate), inside);
      of_A_log = hn::MulAdd(d_x, x, of_A_log);
    }
    store(d_x, d_g + n);
    store(hn::Add(load(sums.dt_bias + n), d_x), sums.dt_bias + n);
  }
  sums.A_log += sum(of_A_log);
}

void store_gate(const Task& t, const Place& at, Adjoint& d, HeadSums& sums) {
  const Problem& p = t.p;
  const GateParameters gate = gate_parameters(p, at.head);
  const bool channel = p.decay == Decay::channel;
  const int64_t width = channel ? p.K : 1, padded = channel ? t.w.K : kLanes;
  for (int64_t i = 0; i < at.count; ++i) {
    if (!begins_token(p, at.token + i)) continue;
    const int64_t token = token_of(p, at.token + i);
    if (!channel) {
      Vec total = zero();
      for (int64_t n = 0; n < t.w.K; n += kLanes) total = hn::Add(total, load(d.g[i] + n));
      d.g[i][0] = sum(total) + d.scalar_g[i];
    }
    if (p.gate != Gate::log_decay) {
      HWY_ALIGN_MAX float raw[kMaxHeadDim];
      load_row(p.g, p.g.offset(at.row, token, at.head), width, padded, raw);
      adjoint_of_gate(p, gate, raw, width, padded, d.g[i], sums);
    }
    store_row(d.g[i], width, t.out.g, t.out.g.offset(at.row, token, at.head));
  }
}

void store_beta(const Task& t, const Place& at, const Chunk& c, const Adjoint& d) {
  for (int64_t i = 0; i < at.count; ++i) {
    float gradient = d.beta[i];
    if (t.p.beta_sigmoid) {
      const float s = c.beta[i] / t.p.beta_factor;
      gradient *= t.p.beta_factor * s * (1 - s);
    }
    store_one(gradient, t.out.beta, t.out.beta.offset(at.row, at.token + i, at.head));
  }
}

void store_rows(const TokenRows& from, const Place& at, int64_t width, const MutableRows& to) {
  for (int64_t i = 0; i < at.count; ++i) store_row(from[i], width, to, to.offset(at.row, at.token + i, at.head));
}

template <Update kUpdate>
void store_gradients(const Task& t, const Place& at, Workspace& space) {
  const Problem& p = t.p;
  Chunk& c = space.c;
  Adjoint& d = space.d;
  for (int64_t i = 0; i < at.count; ++i) {
    adjoint_of_scale(p.l2norm, c.q[i], c.q_norm[i], p.scale, t.w.K, d.q[i]);
    if (p.l2norm) adjoint_of_scale(true, c.k[i], c.k_norm[i], 1.0f, t.w.K, d.k[i]);
    if (kUpdate != Update::delta) continue;  // else d.values are the gradients of beta v
    for (int64_t n = 0; n < t.w.V; n += kLanes) store(hn::Neg(load(d.reads[0][i] + n)), d.values[0][i] + n);
  }
  store_token_rows(p, d.q, at, p.K, t.out.q);
  store_rows(d.k, at, p.K, t.out.k);
  store_rows(d.values[0], at, p.V, t.out.v);
  if (p.decay != Decay::none) store_gate(t, at, d, space.sums);
  if (kUpdate == Update::delta) store_beta(t, at, c, d);
  if (kUpdate == Update::dplr) {
    store_rows(d.a, at, p.K, t.out.a);
    store_rows(d.b, at, p.K, t.out.b);
  }
}

// --- A chunk ----------------------------------------------------------------------------------------------------

template <Update kUpdate>
void prepare(const Task& t, const Place& at, Workspace& space) {
  prepare_columns<kUpdate>(t.p, t.w, at, space.c);
  prepare_rows<kUpdate>(t.p, t.w, at, space.c);
  load_token_rows(t.p, t.d_o, at, at.head, t.p.V, t.w.V, space.d.reads[1]);
}

// After prepare(): d.values and d.reads, from the gradient of the state after the chunk.
template <Update kUpdate>
void gradients_of_values(const Task& t, const Place& next, Workspace& space, const float* d_after) {
  const Rows kept = kUpdate == Update::accumulate ? Rows() : corrections(t);
  read_state(space.c.ends[0][0], Shape<kUpdate>::kColumnCount, d_after, t.w.K, t.w.V, space.d.values[0][0],
             Prefetcher(t.p, next, kept, t.d_o));
  adjoint_of_correction<kUpdate>(t.w, space.c, space.d);
}

// The gradient of the state before the chunk, which may replace that of the state after it.
template <Update kUpdate>
void gradient_of_state(const Task& t, const Workspace& space, const float* d_after, float* d_before) {
  using S = Shape<kUpdate>;
  write_state(space.c.decay, space.c.rows[S::kFirstKind][0], space.d.reads[S::kFirstKind][0], S::kRowCount, t.w.K,
              t.w.V, d_after, d_before);
}

// After prepare() and gradients_of_values(). `state`: before the chunk.
template <Update kUpdate>
void gradients_of_inputs(const Task& t, const Place& at, Workspace& space, const float* state, const float* d_after) {
  using S = Shape<kUpdate>;
  const Widths& w = t.w;
  Chunk& c = space.c;
  Adjoint& d = space.d;
  load_values<kUpdate>(t, at, c);
  if (kUpdate == Update::delta) gradient_of_beta(w, c, d);

  const float* d_reads = d.reads[S::kFirstKind][0];
  transpose(d_reads, kStride, S::kRowCount, w.V, d.reads_across, S::kRowCount);
  transpose(c.values[0][0], kStride, S::kColumnCount, w.V, d.values_across, S::kColumnCount);
  multiply_rows<S::kColumnCount>(d_reads, S::kRowCount, d.values_across, w.V, d.pairs);

  read_state_across<S::kRowCount>(state, d.reads_across, w.K, w.V, d.keys_across);
  transpose(d.keys_across, S::kRowCount, w.K, S::kRowCount, d.rows[S::kFirstKind][0], kStride);
  read_state_across<S::kColumnCount>(d_after, d.values_across, w.K, w.V, d.keys_across);
  transpose(d.keys_across, S::kColumnCount, w.K, S::kColumnCount, d.ends[0][0], kStride);
  adjoint_of_state_decay(w, state, d_after, d);

  adjoint_of_decays<kUpdate>(t.p, w, c, d);
  store_gradients<kUpdate>(t, at, space);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();
#endif
