// SPDX-License-Identifier: Apache-2.0
// The triangular part of a chunk: forward substitution for every token's correction, and the output.
#if defined(KLAB_KERNELS_CPU_CORRECT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KLAB_KERNELS_CPU_CORRECT_INL_H_
#undef KLAB_KERNELS_CPU_CORRECT_INL_H_
#else
#define KLAB_KERNELS_CPU_CORRECT_INL_H_
#endif

#include "kernels/recurrence/cpu/chunk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {

// On entry reads[0], reads[1] are the rows times the state and values[0] is v. On return
//     delta:  reads[0] = w = v - reads[0] - sum over j < i of pairs u_j      values[0] = u = beta w
//     dplr:   values[1] = z = reads[0] + sum over j < i of (pairs v_j + pairs z_j)
//     all:    reads[1] = o = reads[1] + sum over j <= i of pairs with the values
// for the columns [d, d + kVecs kLanes) of V. The triangular system is solved by forward substitution, without an
// inverse, so nearly parallel keys lose no more precision than in the token-by-token form.
template <Update kUpdate, int kVecs>
HWY_INLINE void correct_and_read_columns(Chunk& c, int64_t d) {
  for (int64_t i = 0; i < kChunk; ++i) {
    Vec solve[kVecs], query[kVecs];
    HWY_UNROLL(8)
    for (int n = 0; n < kVecs; ++n) {
      query[n] = load(c.reads[1][i] + d + n * kLanes);
      if (kUpdate != Update::accumulate) solve[n] = load(c.reads[0][i] + d + n * kLanes);
      if (kUpdate == Update::delta) solve[n] = hn::Sub(load(c.values[0][i] + d + n * kLanes), solve[n]);
    }
    for (int64_t j = 0; j < i; ++j) {
      const Vec qk = broadcast(c.pairs[1][0][i][j]);
      const Vec xk = broadcast(c.pairs[0][0][i][j]);
      const Vec qb = broadcast(c.pairs[1][1][i][j]);
      const Vec xb = broadcast(c.pairs[0][1][i][j]);
      HWY_UNROLL(8)
      for (int n = 0; n < kVecs; ++n) {
        const Vec value = load(c.values[0][j] + d + n * kLanes);
        query[n] = hn::MulAdd(qk, value, query[n]);
        if (kUpdate == Update::delta) solve[n] = hn::NegMulAdd(xk, value, solve[n]);
        if (kUpdate == Update::dplr) {
          const Vec z = load(c.values[1][j] + d + n * kLanes);
          solve[n] = hn::MulAdd(xb, z, hn::MulAdd(xk, value, solve[n]));
          query[n] = hn::MulAdd(qb, z, query[n]);
        }
      }
    }
    const Vec qk = broadcast(c.pairs[1][0][i][i]), qb = broadcast(c.pairs[1][1][i][i]);
    HWY_UNROLL(8)
    for (int n = 0; n < kVecs; ++n) {
      const int64_t at = d + n * kLanes;
      Vec value = load(c.values[0][i] + at);
      if (kUpdate == Update::delta) {
        store(solve[n], c.reads[0][i] + at);
        value = hn::Mul(broadcast(c.beta[i]), solve[n]);
        store(value, c.values[0][i] + at);
      }
      query[n] = hn::MulAdd(qk, value, query[n]);
      if (kUpdate == Update::dplr) {
        store(solve[n], c.values[1][i] + at);
        query[n] = hn::MulAdd(qb, solve[n], query[n]);
      }
      store(query[n], c.reads[1][i] + at);
    }
  }
}

template <Update kUpdate>
void correct_and_read(const Widths& w, Chunk& c) {
  int64_t n = 0;
  for (; n + kRowVecs <= w.value_vecs; n += kRowVecs) correct_and_read_columns<kUpdate, kRowVecs>(c, n * kLanes);
  for (; n + 2 <= w.value_vecs; n += 2) correct_and_read_columns<kUpdate, 2>(c, n * kLanes);
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();
#endif
