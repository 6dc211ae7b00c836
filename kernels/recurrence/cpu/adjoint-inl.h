// SPDX-License-Identifier: Apache-2.0
// Backward pass through a chunk's decays: from the gradients of its decayed rows, columns and pairs to those of q, k,
// a, b and the log-decay. The running products of chunk-inl.h are traversed in reverse, so here too no two cumulative
// sums are subtracted: the gradient of g_t is the sum over exactly those (row, column) products whose decay includes
// e_t.
#if defined(KLAB_KERNELS_CPU_ADJOINT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KLAB_KERNELS_CPU_ADJOINT_INL_H_
#undef KLAB_KERNELS_CPU_ADJOINT_INL_H_
#else
#define KLAB_KERNELS_CPU_ADJOINT_INL_H_
#endif

#include "kernels/recurrence/cpu/chunk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {

// Gradients of a Chunk's members. Transposed ones are [width][tokens].
struct Adjoint {
  HWY_ALIGN_MAX TokenRows q, k, a, b;
  TokenRows g;  // of the log-decay; for a scalar decay still to be summed over the channels
  TokenRows rows[2], ends[2], values[2];
  TokenRows reads[2];  // [0]: of the solve rows times the state, [1]: of o
  float decay[kMaxHeadDim];
  float pairs[2 * kChunk * 2 * kChunk];  // [solve and query rows][columns]
  float scalar_g[kChunk];                // contribution of the pairs to the gradient of a scalar log-decay
  float beta[kChunk];
  float reads_across[kMaxHeadDim * 2 * kChunk], values_across[kMaxHeadDim * 2 * kChunk];  // transposed copies
  float keys_across[kMaxHeadDim * 2 * kChunk];                                            // transposed results
};

template <Update kUpdate>
struct Shape {
  static constexpr int kKinds = kUpdate == Update::accumulate ? 1 : 2;  // kinds of rows: query, and solve
  static constexpr int kFirstKind = 2 - kKinds;
  static constexpr int kColumns = kUpdate == Update::dplr ? 2 : 1;
  static constexpr int64_t kRowCount = kKinds * kChunk, kColumnCount = kColumns * kChunk;
};

// The gradient of the decayed product of row i, of the given kind, with column j.
template <Update kUpdate>
HWY_INLINE float& pair_gradient(Adjoint& d, int kind, int column, int64_t i, int64_t j) {
  using S = Shape<kUpdate>;
  return d.pairs[((kind - S::kFirstKind) * kChunk + i) * S::kColumnCount + column * kChunk + j];
}

// Backward of decay_rows() and decay_columns(). Writes d.q, d.k, d.a, d.b and d.g.
template <Update kUpdate>
HWY_INLINE void adjoint_of_chunk_decay(const Widths& w, const Chunk& c, Adjoint& d) {
  for (int64_t n = 0; n < w.K; n += kLanes) {
    Vec through[kChunk + 1];  // [i + 1]: product of e over the tokens 0..i; [0] is 1
    through[0] = broadcast(1.0f);
    for (int64_t i = 0; i < kChunk; ++i) through[i + 1] = hn::Mul(through[i], load(c.e[i] + n));
    Vec of_through = load(d.decay + n);
    for (int64_t i = kChunk; i-- > 0;) {
      const Vec d_query = load(d.rows[1][i] + n);
      of_through = hn::MulAdd(d_query, load(c.q[i] + n), of_through);
      store(hn::Mul(d_query, through[i + 1]), d.q[i] + n);
      if (kUpdate == Update::delta) {
        const Vec d_solve = load(d.rows[0][i] + n);
        of_through = hn::MulAdd(d_solve, load(c.k[i] + n), of_through);
        store(hn::Mul(d_solve, through[i + 1]), d.k[i] + n);
      }
      store(hn::Mul(of_through, through[i + 1]), d.g[i] + n);
      of_through = hn::Mul(of_through, load(c.e[i] + n));
      if (kUpdate == Update::dplr) {
        const Vec d_solve = load(d.rows[0][i] + n);
        of_through = hn::MulAdd(d_solve, load(c.a[i] + n), of_through);
        store(hn::Mul(d_solve, through[i]), d.a[i] + n);
      }
    }
    Vec after[kChunk];  // [i]: product of e over the tokens after i
    after[kChunk - 1] = broadcast(1.0f);
    for (int64_t i = kChunk - 1; i > 0; --i) after[i - 1] = hn::Mul(after[i], load(c.e[i] + n));
    Vec of_after = zero();
    for (int64_t i = 0; i < kChunk; ++i) {
      if (i > 0) {
        store(hn::MulAdd(of_after, after[i - 1], load(d.g[i] + n)), d.g[i] + n);
        of_after = hn::Mul(of_after, load(c.e[i] + n));
      }
      const Vec d_end = load(d.ends[0][i] + n);
      of_after = hn::MulAdd(d_end, load(c.k[i] + n), of_after);
      const Vec so_far = kUpdate == Update::delta ? load(d.k[i] + n) : zero();
      store(hn::MulAdd(d_end, after[i], so_far), d.k[i] + n);
      if (kUpdate == Update::dplr) {
        const Vec d_end_b = load(d.ends[1][i] + n);
        of_after = hn::MulAdd(d_end_b, load(c.b[i] + n), of_after);
        store(hn::Mul(d_end_b, after[i]), d.b[i] + n);
      }
    }
  }
}

// to += x y.
HWY_INLINE void add_product(Vec x, Vec y, float* to) { store(hn::MulAdd(x, y, load(to)), to); }

// Backward of column j's products with all rows i >= j, for the channels [from, from + kVecs kLanes).
template <Update kUpdate, bool kPerChannel, int kVecs>
HWY_INLINE void adjoint_of_column(const Chunk& c, Adjoint& d, int64_t j, int64_t from) {
  constexpr bool kDelta = kUpdate == Update::delta, kDplr = kUpdate == Update::dplr;
  const auto at = [&](int n) { return from + n * kLanes; };
  Vec k[kChunk][kVecs], b[kChunk][kVecs];  // the columns decayed up to each row
  HWY_UNROLL(4)
  for (int n = 0; n < kVecs; ++n) {
    k[j][n] = load(c.k[j] + at(n));
    if (kDplr) b[j][n] = load(c.b[j] + at(n));
  }
  for (int64_t i = j + 1; i < kChunk; ++i) {
    HWY_UNROLL(4)
    for (int n = 0; n < kVecs; ++n) {
      const Vec e = kPerChannel ? load(c.e[i] + at(n)) : broadcast(1.0f);
      k[i][n] = kPerChannel ? hn::Mul(k[i - 1][n], e) : k[i - 1][n];
      if (kDplr) b[i][n] = kPerChannel ? hn::Mul(b[i - 1][n], e) : b[i - 1][n];
    }
  }
  Vec of_k[kVecs], of_b[kVecs];  // gradients of the decayed columns at row i
  HWY_UNROLL(4)
  for (int n = 0; n < kVecs; ++n) of_k[n] = of_b[n] = zero();
  for (int64_t i = kChunk - 1; i >= j; --i) {
    const Vec qk = broadcast(pair_gradient<kUpdate>(d, 1, 0, i, j));
    const Vec qb = broadcast(kDplr ? pair_gradient<kUpdate>(d, 1, 1, i, j) : 0.0f);
    const Vec xk = broadcast(kUpdate != Update::accumulate && i > j ? pair_gradient<kUpdate>(d, 0, 0, i, j) : 0.0f);
    const Vec xb = broadcast(kDplr && i > j ? pair_gradient<kUpdate>(d, 0, 1, i, j) : 0.0f);
    HWY_UNROLL(4)
    for (int n = 0; n < kVecs; ++n) {
      const Vec q = load(c.q[i] + at(n));
      Vec d_q = hn::MulAdd(qk, k[i][n], load(d.q[i] + at(n)));
      of_k[n] = hn::MulAdd(qk, q, of_k[n]);
      if (kDplr) {
        d_q = hn::MulAdd(qb, b[i][n], d_q);
        of_b[n] = hn::MulAdd(qb, q, of_b[n]);
      }
      store(d_q, d.q[i] + at(n));
      if (i == j) continue;
      if (kDelta) {
        add_product(xk, k[i][n], d.k[i] + at(n));
        of_k[n] = hn::MulAdd(xk, load(c.k[i] + at(n)), of_k[n]);
      }
      if (kPerChannel) {
        Vec d_g = hn::MulAdd(of_k[n], k[i][n], load(d.g[i] + at(n)));
        if (kDplr) d_g = hn::MulAdd(of_b[n], b[i][n], d_g);
        store(d_g, d.g[i] + at(n));
        const Vec e = load(c.e[i] + at(n));
        of_k[n] = hn::Mul(of_k[n], e);
        if (kDplr) of_b[n] = hn::Mul(of_b[n], e);
      }
      if (kDplr) {
        const Vec a = load(c.a[i] + at(n));
        store(hn::MulAdd(xb, b[i - 1][n], hn::MulAdd(xk, k[i - 1][n], load(d.a[i] + at(n)))), d.a[i] + at(n));
        of_k[n] = hn::MulAdd(xk, a, of_k[n]);
        of_b[n] = hn::MulAdd(xb, a, of_b[n]);
      }
    }
  }
  HWY_UNROLL(4)
  for (int n = 0; n < kVecs; ++n) {
    store(hn::Add(load(d.k[j] + at(n)), of_k[n]), d.k[j] + at(n));
    if (kDplr) store(hn::Add(load(d.b[j] + at(n)), of_b[n]), d.b[j] + at(n));
  }
}

// Backward of decay_pairs(): the gradient of a scalar log-decay. d.pairs become the gradients of the undecayed
// products.
template <Update kUpdate>
HWY_INLINE void adjoint_of_scalar_decay(const Chunk& c, Adjoint& d) {
  using S = Shape<kUpdate>;
  for (float& g : d.scalar_g) g = 0;
  for (int64_t j = 0; j < kChunk; ++j) {
    float beyond = 0;  // sum over all rows from i on of gradient times product
    for (int64_t i = kChunk - 1; i > j; --i) {
      for (int kind = 1; kind >= S::kFirstKind; --kind) {
        // The solve rows of DPLR read the state before their own token's decay.
        if (kind == 0 && kUpdate == Update::dplr) d.scalar_g[i] += beyond;
        for (int column = 0; column < S::kColumns; ++column) {
          float& gradient = pair_gradient<kUpdate>(d, kind, column, i, j);
          beyond += gradient * c.pairs[kind][column][i][j];
          gradient *= pair_decay<kUpdate>(c, kind, i, j);
        }
      }
      if (kUpdate != Update::dplr) d.scalar_g[i] += beyond;
    }
  }
}

template <Update kUpdate, bool kPerChannel>
void adjoint_of_pairs(const Widths& w, const Chunk& c, Adjoint& d) {
  int64_t n = 0;
  for (; kUpdate != Update::dplr && n + 2 <= w.key_vecs; n += 2) {
    for (int64_t j = 0; j < kChunk; ++j) adjoint_of_column<kUpdate, kPerChannel, 2>(c, d, j, n * kLanes);
  }
  for (; n < w.key_vecs; ++n) {
    for (int64_t j = 0; j < kChunk; ++j) adjoint_of_column<kUpdate, kPerChannel, 1>(c, d, j, n * kLanes);
  }
}

template <Update kUpdate>
void adjoint_of_decays(const Problem& p, const Widths& w, const Chunk& c, Adjoint& d) {
  adjoint_of_chunk_decay<kUpdate>(w, c, d);
  if (p.decay == Decay::scalar) adjoint_of_scalar_decay<kUpdate>(c, d);
  if (p.decay == Decay::channel) {
    adjoint_of_pairs<kUpdate, true>(w, c, d);
  } else {
    adjoint_of_pairs<kUpdate, false>(w, c, d);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();
#endif
