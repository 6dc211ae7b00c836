// SPDX-License-Identifier: Apache-2.0
// The recurrence token by token, for a few tokens per sequence (decode), with two passes over the state per token. The
// first computes the correction of the delta rule or DPLR; the second decays, writes and reads: o = S^T q with the new
// S. Memory-bound: the first pass loads the state into the cache, where the second finds it.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/recurrence/cpu/recurrence_step.cpp"
#include "kernels/common/cpu/targets.h"
// Must come before the headers that are compiled once per instruction set:
#include "hwy/foreach_target.h"
#include "kernels/common/cpu/workers.h"
#include "kernels/recurrence/cpu/chunk-inl.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kMostHeads = 4;

// The inputs of one token of one head, padded to whole vectors.
struct Token {
  HWY_ALIGN_MAX float q[kMaxHeadDim + kLanes], k[kMaxHeadDim + kLanes], b[kMaxHeadDim + kLanes];
  float e[kMaxHeadDim + kLanes];
  float solve[kMaxHeadDim + kLanes];  // the row that reads the state in the first pass: decayed k, or a of DPLR
  float v[kMaxHeadDim + kLanes], o[kMaxHeadDim + kLanes];
  float beta;
};

void load_token(const Problem& p, const Widths& w, const Place& at, Token& t) {
  const int64_t key_head = at.head / (p.HV / p.H);
  float norm = 1;
  if (ends_token(p, at.token)) {
    load_row(p.q, p.q.offset(at.row, token_of(p, at.token), key_head), p.K, w.K, t.q);
    scale_row(t.q, w.K, p.l2norm, p.scale, &norm);
  } else {
    fill_row(t.q, 0.0f, w.K);
  }
  load_row(p.k, p.k.offset(at.row, at.token, key_head), p.K, w.K, t.k);
  scale_row(t.k, w.K, p.l2norm, 1.0f, &norm);
  load_row(p.v, p.v.offset(at.row, at.token, at.head), p.V, w.V, t.v);
  load_decay_row(p, w, at, gate_parameters(p, at.head), t.e);
  if (p.update == Update::delta) {
    t.beta = load_one(p.beta, p.beta.offset(at.row, at.token, at.head));
    if (p.beta_sigmoid) t.beta = p.beta_factor * hn::GetLane(sigmoid(broadcast(t.beta)));
    for (int64_t d = 0; d < w.K; d += kLanes) store(hn::Mul(load(t.k + d), load(t.e + d)), t.solve + d);
  }
  if (p.update == Update::dplr) {
    load_row(p.a, p.a.offset(at.row, at.token, at.head), p.K, w.K, t.solve);
    load_row(p.b, p.b.offset(at.row, at.token, at.head), p.K, w.K, t.b);
  }
}

// Updates the columns [column, column + kVecs kLanes) of the state [K, width]; width is a multiple of kLanes. The
// second pass prefetches the next state, if `next` is not null.
template <Update kUpdate, int kVecs>
void step_columns(Token& t, const float* from, int64_t K, int64_t width, int64_t column, const float* next, float* to) {
  Vec value[kVecs], read[kVecs], o[kVecs];
  HWY_UNROLL(8)
  for (int n = 0; n < kVecs; ++n) {
    value[n] = load(t.v + column + n * kLanes);
    read[n] = o[n] = zero();
  }
  if (kUpdate != Update::accumulate) {
    for (int64_t k = 0; k < K; ++k) {
      const Vec x = broadcast(t.solve[k]);
      HWY_UNROLL(8)
      for (int n = 0; n < kVecs; ++n) {
        read[n] = hn::MulAdd(x, hn::LoadU(kFloats, from + k * width + column + n * kLanes), read[n]);
      }
    }
  }
  if (kUpdate == Update::delta) {
    HWY_UNROLL(8)
    for (int n = 0; n < kVecs; ++n) value[n] = hn::Mul(broadcast(t.beta), hn::Sub(value[n], read[n]));
  }
  for (int64_t k = 0; k < K; ++k) {
    const Vec e = broadcast(t.e[k]), key = broadcast(t.k[k]), q = broadcast(t.q[k]), b = broadcast(t.b[k]);
    HWY_UNROLL(8)
    for (int n = 0; n < kVecs; ++n) {
      const int64_t at = k * width + column + n * kLanes;
      Vec s = hn::MulAdd(key, value[n], hn::Mul(e, hn::LoadU(kFloats, from + at)));
      if (kUpdate == Update::dplr) s = hn::MulAdd(b, read[n], s);
      o[n] = hn::MulAdd(q, s, o[n]);
      hn::StoreU(s, kFloats, to + at);
      if (next != nullptr) hwy::Prefetch(next + at);
    }
  }
  HWY_UNROLL(8)
  for (int n = 0; n < kVecs; ++n) store(o[n], t.o + column + n * kLanes);
}

template <Update kUpdate>
void step_token(Token& t, const float* from, int64_t K, int64_t width, const float* next, float* to) {
  int64_t column = 0;
  for (; column + kRowVecs * kLanes <= width; column += kRowVecs * kLanes) {
    step_columns<kUpdate, kRowVecs>(t, from, K, width, column, next, to);
  }
  for (; column + 2 * kLanes <= width; column += 2 * kLanes) {
    step_columns<kUpdate, 2>(t, from, K, width, column, next, to);
  }
  for (; column < width; column += kLanes) step_columns<kUpdate, 1>(t, from, K, width, column, next, to);
}

void copy_state(const float* from, int64_t K, int64_t V, int64_t from_width, float* to, int64_t to_width) {
  for (int64_t k = 0; k < K; ++k) {
    if (from == nullptr) {
      std::memset(to + k * to_width, 0, static_cast<size_t>(V) * sizeof(float));
    } else {
      std::memcpy(to + k * to_width, from + k * from_width, static_cast<size_t>(V) * sizeof(float));
    }
  }
}

template <Update kUpdate>
void head(const Problem& p, const Widths& w, int64_t sequence, int64_t head, bool last, const MutableRows& o,
          float* final_state) {
  const int64_t offset = (sequence * p.HV + head) * p.K * p.V;
  const float* from = p.initial_state == nullptr ? nullptr : p.initial_state + offset;
  const float* next = last || from == nullptr ? nullptr : from + p.K * p.V;
  const int64_t width = (p.V + kLanes - 1) / kLanes * kLanes;
  Token* t = static_cast<Token*>(scratch(sizeof(Token) + static_cast<size_t>(p.K * width) * sizeof(float)));
  // If V is a whole number of vectors the states are used in place, else through a padded copy.
  const bool direct = width == p.V;
  float* to = direct ? final_state + offset : reinterpret_cast<float*>(t + 1);
  if (!direct) std::memset(to, 0, static_cast<size_t>(p.K * width) * sizeof(float));
  if (!direct || from == nullptr) {
    copy_state(from, p.K, p.V, p.V, to, width);
    from = to;
  }
  const int64_t length = p.sequences[static_cast<size_t>(sequence)].length;
  for (int64_t i = 0; i < length; ++i) {
    const Place at = place_of(p, sequence, head, i);
    load_token(p, w, at, *t);
    step_token<kUpdate>(*t, from, p.K, width, direct && i + 1 == length ? next : nullptr, to);
    if (ends_token(p, at.token)) store_row(t->o, p.V, o, o.offset(at.row, token_of(p, at.token), at.head));
    from = to;
  }
  if (!direct) copy_state(to, p.K, p.V, width, final_state + offset, p.V);
}

}  // namespace

void step(const Problem& p, const MutableRows& o, float* final_state) {
  const Widths w(p);
  const int64_t group = heads_per_task(p.count(), p.HV, kMostHeads), groups = (p.HV + group - 1) / group;
  run_tasks(p.count() * groups, [&](int64_t i) {
    const int64_t sequence = i / groups, first = i % groups * group;
    const int64_t end = HWY_MIN(first + group, p.HV);
    for (int64_t h = first; h < end; ++h) {
      const bool last = h + 1 == end;
      switch (p.update) {
        case Update::accumulate: head<Update::accumulate>(p, w, sequence, h, last, o, final_state); break;
        case Update::delta: head<Update::delta>(p, w, sequence, h, last, o, final_state); break;
        case Update::dplr: head<Update::dplr>(p, w, sequence, h, last, o, final_state); break;
      }
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace klab::kernels::cpu {

HWY_EXPORT(step);

void step(const Problem& problem, const MutableRows& o, float* final_state) {
  HWY_DYNAMIC_DISPATCH(step)(problem, o, final_state);
}

}  // namespace klab::kernels::cpu
#endif
