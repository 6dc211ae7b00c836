// SPDX-License-Identifier: Apache-2.0
// A chunk of tokens of one head: its inputs, and the quantities that do not depend on the state.
//
// With e_t = exp(g_t), token j contributes to a later token i with the decay prod of e over (j, i]. These products are
// computed factor by factor and not as exp of a difference of cumulative sums of g. Every factor lies in [0, 1], so
// nothing can overflow, g = -infinity gives an exact zero, a hard reset loses no precision, and a token's result does
// not depend on later tokens.
#if defined(KLAB_KERNELS_CPU_CHUNK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KLAB_KERNELS_CPU_CHUNK_INL_H_
#undef KLAB_KERNELS_CPU_CHUNK_INL_H_
#else
#define KLAB_KERNELS_CPU_CHUNK_INL_H_
#endif

#include "kernels/common/cpu/tiles-inl.h"
#include "kernels/recurrence/cpu/recurrence.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {

constexpr float kL2Eps = 1e-6f;

using TokenRows = float[kChunk][kStride];
using TokenPairs = float[kChunk][kChunk];

// The chunk form multiplies rows by columns. Rows read the state: `solve` rows (k of the delta rule, a of DPLR) to
// correct the value that is written, `query` rows (q) for the output. Columns write to the state: k with the written
// values, and for DPLR also b with the result of the read by a.
struct Chunk {
  HWY_ALIGN_MAX TokenRows q, k, a, b;  // scaled and L2-normalised
  TokenRows e;                         // exp(g); a scalar decay is repeated in every channel
  TokenRows rows[2];                   // solve and query rows, decayed from the chunk's start
  TokenRows ends[2];                   // columns, decayed to the chunk's end
  TokenRows values[2];                 // written with the columns: [0] is u of the delta rule, else v; [1] is z of DPLR
  TokenRows reads[2];                  // solve and query rows times the state
  float decay[kMaxHeadDim];            // product of e over the chunk
  TokenPairs pairs[2][2];              // [solve, query][column]: decayed products, valid for j < i (query: j <= i)
  TokenPairs between;                  // scalar decay only: product of e over (j, i]
  float scalar_e[kChunk];              // scalar decay only: e
  float beta[kChunk];
  float q_norm[kChunk], k_norm[kChunk];  // 1 / length, with l2norm only
};

struct Widths {
  int64_t K, V;  // padded
  int64_t key_vecs, value_vecs;
  explicit Widths(const Problem& p)
      : K(padded_key(p.K)), V(padded_value(p.V)), key_vecs(K / kLanes), value_vecs(V / kLanes) {}
};

// The position of a chunk's tokens in the batch.
struct Place {
  int64_t sequence, row, token, count, head;  // `count` tokens from `token` of batch row `row`, value head `head`
};

HWY_INLINE Place place_of(const Problem& p, int64_t sequence, int64_t head, int64_t first) {
  const Sequence& s = p.sequences[static_cast<size_t>(sequence)];
  return {sequence, s.row, s.start + first, HWY_MIN(kChunk, s.length - first), head};
}

// --- Loading ----------------------------------------------------------------------------------------------------

HWY_INLINE void clear_rows(TokenRows& rows, int64_t from, int64_t width) {
  for (int64_t i = from; i < kChunk; ++i) std::memset(rows[i], 0, static_cast<size_t>(width) * sizeof(float));
}

HWY_INLINE bool begins_token(const Problem& p, int64_t write) { return p.writes == 1 || write % p.writes == 0; }
HWY_INLINE bool ends_token(const Problem& p, int64_t write) { return p.writes == 1 || (write + 1) % p.writes == 0; }
HWY_INLINE int64_t token_of(const Problem& p, int64_t write) { return p.writes == 1 ? write : write / p.writes; }

HWY_INLINE void load_rows(const Rows& from, const Place& at, int64_t head, int64_t width, int64_t padded,
                          TokenRows& to) {
  for (int64_t i = 0; i < at.count; ++i) {
    load_row(from, from.offset(at.row, at.token + i, head), width, padded, to[i]);
  }
  clear_rows(to, at.count, padded);
}

// Rows that there is one of per token, for its last write; zeros for the others.
HWY_INLINE void load_token_rows(const Problem& p, const Rows& from, const Place& at, int64_t head, int64_t width,
                                int64_t padded, TokenRows& to) {
  if (p.writes == 1) return load_rows(from, at, head, width, padded, to);
  clear_rows(to, 0, padded);
  for (int64_t i = 0; i < at.count; ++i) {
    const int64_t write = at.token + i;
    if (ends_token(p, write)) load_row(from, from.offset(at.row, token_of(p, write), head), width, padded, to[i]);
  }
}

HWY_INLINE void store_token_rows(const Problem& p, const TokenRows& from, const Place& at, int64_t width,
                                 const MutableRows& to) {
  for (int64_t i = 0; i < at.count; ++i) {
    const int64_t write = at.token + i;
    if (ends_token(p, write)) store_row(from[i], width, to, to.offset(at.row, token_of(p, write), at.head));
  }
}

// Multiplies row x by `factor`, or, if `normed`, by factor / |x|, and stores 1 / |x| in `norm`.
HWY_INLINE void scale_row(float* x, int64_t padded, bool normed, float factor, float* norm) {
  if (normed) {
    Vec squares = zero();
    for (int64_t d = 0; d < padded; d += kLanes) squares = hn::MulAdd(load(x + d), load(x + d), squares);
    *norm = 1.0f / __builtin_sqrtf(sum(squares) + kL2Eps);
    factor *= *norm;
  }
  if (factor == 1.0f) return;
  for (int64_t d = 0; d < padded; d += kLanes) store(hn::Mul(broadcast(factor), load(x + d)), x + d);
}

struct GateParameters {
  float rate;         // exp(A_log)
  const float* bias;  // of this head, or null
};

HWY_INLINE GateParameters gate_parameters(const Problem& p, int64_t head) {
  const float rate = p.A_log == nullptr ? 1.0f : hn::GetLane(exp(broadcast(p.A_log[head])));
  const int64_t per_head = p.decay == Decay::channel ? p.K : 1;
  return {rate, p.dt_bias == nullptr ? nullptr : p.dt_bias + head * per_head};
}

HWY_INLINE Vec log_decay(const Problem& p, Vec rate, Vec x) {
  if (p.gate == Gate::softplus) return hn::Neg(hn::Mul(rate, softplus(x)));
  return hn::Mul(broadcast(p.lower_bound), sigmoid(hn::Mul(rate, x)));
}

HWY_INLINE Vec bias_at(const float* bias, int64_t d, int64_t width) {
  if (d + kLanes <= width) return hn::LoadU(kFloats, bias + d);
  HWY_ALIGN float rest[kLanes] = {};
  std::memcpy(rest, bias + d, static_cast<size_t>(width - d) * sizeof(float));
  return load(rest);
}

// Replaces a row of g (or of the gate's raw input) by exp(g).
HWY_INLINE void exponentiate_row(const Problem& p, const GateParameters& gate, int64_t width, int64_t padded,
                                 float* e) {
  for (int64_t d = 0; d < padded; d += kLanes) {
    Vec g = load(e + d);
    if (p.gate != Gate::log_decay) {
      if (gate.bias != nullptr && d < width) g = hn::Add(g, bias_at(gate.bias, d, width));
      g = log_decay(p, broadcast(gate.rate), g);
    }
    store(exp(g), e + d);
  }
}

HWY_INLINE void fill_row(float* row, float x, int64_t padded) {
  for (int64_t d = 0; d < padded; d += kLanes) store(broadcast(x), row + d);
}

// exp(g) of the first token of `at`, in every channel.
HWY_INLINE void load_decay_row(const Problem& p, const Widths& w, const Place& at, const GateParameters& gate,
                               float* e) {
  if (p.decay == Decay::none || !begins_token(p, at.token)) return fill_row(e, 1.0f, w.K);
  const bool channel = p.decay == Decay::channel;
  const int64_t width = channel ? p.K : 1, padded = channel ? w.K : kLanes;
  load_row(p.g, p.g.offset(at.row, token_of(p, at.token), at.head), width, padded, e);
  exponentiate_row(p, gate, width, padded, e);
  if (!channel) fill_row(e, e[0], w.K);
}

HWY_INLINE void load_decay(const Problem& p, const Widths& w, const Place& at, Chunk& c) {
  const GateParameters gate = gate_parameters(p, at.head);
  for (int64_t i = 0; i < kChunk; ++i) {
    if (i < at.count) {
      load_decay_row(p, w, {at.sequence, at.row, at.token + i, 1, at.head}, gate, c.e[i]);
    } else {
      fill_row(c.e[i], 1.0f, w.K);
    }
    c.scalar_e[i] = c.e[i][0];
  }
}

HWY_INLINE void load_beta(const Problem& p, const Place& at, Chunk& c) {
  for (int64_t i = 0; i < kChunk; ++i) {
    c.beta[i] = i < at.count ? load_one(p.beta, p.beta.offset(at.row, at.token + i, at.head)) : 0.0f;
  }
  if (!p.beta_sigmoid) return;
  for (int64_t i = 0; i < kChunk; ++i) {
    c.beta[i] = i < at.count ? p.beta_factor * hn::GetLane(sigmoid(broadcast(c.beta[i]))) : 0.0f;
  }
}

HWY_INLINE void load_keys(const Problem& p, const Widths& w, const Place& at, Chunk& c) {
  const int64_t key_head = at.head / (p.HV / p.H);
  load_rows(p.k, at, key_head, p.K, w.K, c.k);
  if (p.l2norm) {
    for (int64_t i = 0; i < at.count; ++i) scale_row(c.k[i], w.K, true, 1.0f, &c.k_norm[i]);
  }
  if (p.update == Update::dplr) {
    load_rows(p.a, at, at.head, p.K, w.K, c.a);
    load_rows(p.b, at, at.head, p.K, w.K, c.b);
  }
}

HWY_INLINE void load_queries(const Problem& p, const Widths& w, const Place& at, Chunk& c) {
  load_token_rows(p, p.q, at, at.head / (p.HV / p.H), p.K, w.K, c.q);
  for (int64_t i = 0; i < at.count; ++i) scale_row(c.q[i], w.K, p.l2norm, p.scale, &c.q_norm[i]);
}

// Prefetches the rows of another chunk, one token per call. The rows are a whole token apart, a stride that the
// hardware prefetcher does not detect, and prefetching all at once would exceed the number of outstanding loads.
class Prefetcher {
 public:
  // `corrections`, `d_o`: further rows of width V, or none.
  Prefetcher(const Problem& p, const Place& at, const Rows& corrections = {}, const Rows& d_o = {})
      : p_(p), at_(at), corrections_(corrections), d_o_(d_o) {}

  HWY_INLINE void operator()() {
    if (at_.count <= 0) return;
    const int64_t key_head = at_.head / (p_.HV / p_.H), write = at_.token;
    ask(p_.k, write, key_head, p_.K);
    ask(p_.v, write, at_.head, p_.V);
    if (p_.update == Update::dplr) {
      ask(p_.a, write, at_.head, p_.K);
      ask(p_.b, write, at_.head, p_.K);
    }
    ask(corrections_, write, at_.head, p_.V);
    const int64_t token = token_of(p_, write);
    if (p_.decay == Decay::channel && begins_token(p_, write)) ask(p_.g, token, at_.head, p_.K);
    if (ends_token(p_, write)) {
      ask(p_.q, token, key_head, p_.K);
      ask(d_o_, token, at_.head, p_.V);
    }
    ++at_.token;
    --at_.count;
  }

 private:
  HWY_INLINE void ask(const Rows& rows, int64_t row, int64_t head, int64_t width) const {
    if (rows) prefetch_row(rows, rows.offset(at_.row, row, head), width);
  }

  const Problem& p_;
  Place at_;
  Rows corrections_, d_o_;
};

// --- Decay along the chunk --------------------------------------------------------------------------------------

// Columns decayed to the chunk's end, and the decay of the whole chunk.
HWY_INLINE void decay_columns(const Problem& p, const Widths& w, Chunk& c) {
  const bool dplr = p.update == Update::dplr;
  for (int64_t d = 0; d < w.K; d += kLanes) {
    Vec after = broadcast(1.0f);
    for (int64_t i = kChunk; i-- > 0;) {
      store(hn::Mul(load(c.k[i] + d), after), c.ends[0][i] + d);
      if (dplr) store(hn::Mul(load(c.b[i] + d), after), c.ends[1][i] + d);
      after = hn::Mul(after, load(c.e[i] + d));
    }
    store(after, c.decay + d);
  }
}

// Rows decayed from the chunk's start. `a` of DPLR reads the state before its own token's decay.
HWY_INLINE void decay_rows(const Problem& p, const Widths& w, Chunk& c) {
  for (int64_t d = 0; d < w.K; d += kLanes) {
    Vec before = broadcast(1.0f);
    for (int64_t i = 0; i < kChunk; ++i) {
      const Vec through = hn::Mul(before, load(c.e[i] + d));
      if (p.update == Update::delta) store(hn::Mul(load(c.k[i] + d), through), c.rows[0][i] + d);
      if (p.update == Update::dplr) store(hn::Mul(load(c.a[i] + d), before), c.rows[0][i] + d);
      store(hn::Mul(load(c.q[i] + d), through), c.rows[1][i] + d);
      before = through;
    }
  }
}

// --- Decayed products of rows and columns -----------------------------------------------------------------------

// Adds the channels [d, d + kVecs kLanes) of column j's products with all rows i >= j to c.pairs.
template <Update kUpdate, bool kPerChannel, int kVecs>
HWY_INLINE void add_products_of_column(Chunk& c, int64_t j, int64_t d) {
  constexpr bool kTwoColumns = kUpdate == Update::dplr;
  Vec k[kVecs], b[kVecs];  // the columns, decayed up to row i
  HWY_UNROLL(8)
  for (int n = 0; n < kVecs; ++n) {
    k[n] = load(c.k[j] + d + n * kLanes);
    if (kTwoColumns) b[n] = load(c.b[j] + d + n * kLanes);
  }
  HWY_ALIGN float sums[kChunk + 1][4];  // [i][solve k, solve b, query k, query b]
  const auto row = [&](int64_t i, Vec(&acc)[4]) HWY_ATTR {
    HWY_UNROLL(8)
    for (int n = 0; n < kVecs; ++n) {
      const int64_t at = d + n * kLanes;
      if (kTwoColumns) {
        const Vec a = load(c.a[i] + at);
        acc[0] = hn::MulAdd(a, k[n], acc[0]);
        acc[1] = hn::MulAdd(a, b[n], acc[1]);
      }
      if (kPerChannel && i > j) {
        const Vec e = load(c.e[i] + at);
        k[n] = hn::Mul(k[n], e);
        if (kTwoColumns) b[n] = hn::Mul(b[n], e);
      }
      if (kUpdate == Update::delta) acc[0] = hn::MulAdd(load(c.k[i] + at), k[n], acc[0]);
      const Vec q = load(c.q[i] + at);
      acc[2] = hn::MulAdd(q, k[n], acc[2]);
      if (kTwoColumns) acc[3] = hn::MulAdd(q, b[n], acc[3]);
    }
  };
  if (kTwoColumns) {
    for (int64_t i = j; i < kChunk; ++i) {
      Vec acc[4] = {zero(), zero(), zero(), zero()};
      row(i, acc);
      store_sums(acc[0], acc[1], acc[2], acc[3], sums[i]);
    }
    for (int64_t i = j; i < kChunk; ++i) {
      c.pairs[0][0][i][j] += sums[i][0];
      c.pairs[0][1][i][j] += sums[i][1];
      c.pairs[1][0][i][j] += sums[i][2];
      c.pairs[1][1][i][j] += sums[i][3];
    }
  } else {
    // Two rows at a time, to use all four sums.
    for (int64_t i = j; i < kChunk; i += 2) {
      Vec first[4] = {zero(), zero(), zero(), zero()}, second[4] = {zero(), zero(), zero(), zero()};
      row(i, first);
      if (i + 1 < kChunk) row(i + 1, second);
      store_sums(first[0], first[2], second[0], second[2], sums[i]);
    }
    for (int64_t i = j; i < kChunk; ++i) {
      const float* two = sums[i - (i - j) % 2] + 2 * ((i - j) % 2);
      if (kUpdate == Update::delta) c.pairs[0][0][i][j] += two[0];
      c.pairs[1][0][i][j] += two[1];
    }
  }
}

template <Update kUpdate, bool kPerChannel, int kVecs>
void add_products(Chunk& c, int64_t d) {
  for (int64_t j = 0; j < kChunk; ++j) add_products_of_column<kUpdate, kPerChannel, kVecs>(c, j, d);
}

// between[i][j], the product of e over (j, i].
HWY_INLINE void decay_between(Chunk& c) {
  for (int64_t i = 0; i < kChunk; ++i) {
    for (int64_t j = 0; j < i; ++j) c.between[i][j] = c.between[i - 1][j] * c.scalar_e[i];
    c.between[i][i] = 1.0f;
    for (int64_t j = i + 1; j < kChunk; ++j) c.between[i][j] = 0.0f;
  }
}

// The decay between row i of kind 0 (solve) or 1 (query) and column j < i.
template <Update kUpdate>
HWY_INLINE float pair_decay(const Chunk& c, int kind, int64_t i, int64_t j) {
  return kUpdate == Update::dplr && kind == 0 ? c.between[i - 1][j] : c.between[i][j];
}

template <Update kUpdate>
HWY_INLINE void decay_pairs(Chunk& c) {
  decay_between(c);
  for (int kind = kUpdate == Update::accumulate ? 1 : 0; kind < 2; ++kind) {
    for (int column = 0; column < (kUpdate == Update::dplr ? 2 : 1); ++column) {
      for (int64_t i = 1; i < kChunk; ++i) {
        for (int64_t j = 0; j < i; ++j) c.pairs[kind][column][i][j] *= pair_decay<kUpdate>(c, kind, i, j);
      }
    }
  }
}

template <Update kUpdate, bool kPerChannel>
void decayed_products(const Problem& p, const Widths& w, Chunk& c) {
  std::memset(c.pairs, 0, sizeof(c.pairs));
  const int64_t vecs = w.key_vecs;
  int64_t n = 0;
  for (; n + kRowVecs <= vecs; n += kRowVecs) add_products<kUpdate, kPerChannel, kRowVecs>(c, n * kLanes);
  for (; n + 2 <= vecs; n += 2) add_products<kUpdate, kPerChannel, 2>(c, n * kLanes);
  for (; n < vecs; ++n) add_products<kUpdate, kPerChannel, 1>(c, n * kLanes);
  if (p.decay == Decay::scalar) decay_pairs<kUpdate>(c);
}

template <Update kUpdate>
HWY_INLINE void decayed_products(const Problem& p, const Widths& w, Chunk& c) {
  if (p.decay == Decay::channel) {
    decayed_products<kUpdate, true>(p, w, c);
  } else {
    decayed_products<kUpdate, false>(p, w, c);
  }
}

// All quantities of a chunk that depend neither on the state nor on v. prepare_columns() must run first.
template <Update kUpdate>
HWY_INLINE void prepare_rows(const Problem& p, const Widths& w, const Place& at, Chunk& c) {
  load_queries(p, w, at, c);
  decay_rows(p, w, c);
  decayed_products<kUpdate>(p, w, c);
}

template <Update kUpdate>
HWY_INLINE void prepare_columns(const Problem& p, const Widths& w, const Place& at, Chunk& c) {
  load_keys(p, w, at, c);
  load_decay(p, w, at, c);
  if (kUpdate == Update::delta) load_beta(p, at, c);
  decay_columns(p, w, c);
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();
#endif
