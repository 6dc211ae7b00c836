// SPDX-License-Identifier: Apache-2.0
// The forward pass, chunk by chunk (section 3.1 of arXiv 2510.26692, but without W and U: the triangular system is
// solved directly for the corrections).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/recurrence/cpu/recurrence_forward.cpp"
#include "kernels/common/cpu/targets.h"
// Must come before the headers that are compiled once per instruction set:
#include "hwy/foreach_target.h"
#include "kernels/common/cpu/workers.h"
#include "kernels/recurrence/cpu/chunk-inl.h"
#include "kernels/recurrence/cpu/correct-inl.h"
#include "kernels/recurrence/cpu/slice-inl.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Heads per task: their states share the L2 cache with the current chunk.
constexpr int64_t kMostHeads = 4;

struct Task {
  const Problem& p;
  MutableRows o;
  float* final_state;
  Kept kept;
  const std::vector<int64_t>& segments;
  int64_t kept_state_size;  // floats per kept state, over all columns of V
  Widths w;
};

void keep_corrections(const Task& t, const Place& at, const TokenRows& corrections) {
  for (int64_t i = 0; i < at.count; ++i) {
    const int64_t first = at.row * t.o.batch / t.o.token * t.p.writes;  // of the row: o is contiguous, [B T, HV, V]
    std::memcpy(t.kept.corrections + ((first + at.token + i) * t.p.HV + at.head) * t.p.state_width, corrections[i],
                static_cast<size_t>(t.p.V) * sizeof(float));
  }
}

template <Update kUpdate>
void chunk(const Task& t, const Place& at, const Place& next, Chunk& c, float* state) {
  const Problem& p = t.p;
  prepare_columns<kUpdate>(p, t.w, at, c);
  prepare_rows<kUpdate>(p, t.w, at, c);
  load_rows(p.v, at, at.head, p.V, t.w.V, c.values[0]);
  constexpr int kFirst = kUpdate == Update::accumulate ? 1 : 0;
  read_state(c.rows[kFirst][0], (2 - kFirst) * kChunk, state, t.w.K, t.w.V, c.reads[kFirst][0], Prefetcher(p, next));
  correct_and_read<kUpdate>(t.w, c);
  store_token_rows(p, c.reads[1], at, p.V, t.o);
  if (t.kept.corrections != nullptr) keep_corrections(t, at, kUpdate == Update::delta ? c.reads[0] : c.values[1]);
  write_state(c.decay, c.ends[0][0], c.values[0][0], kUpdate == Update::dplr ? 2 * kChunk : kChunk, t.w.K, t.w.V, state,
              state);
}

template <Update kUpdate>
void heads_of(const Task& t, int64_t sequence, int64_t first_head, int64_t count) {
  const Problem& p = t.p;
  const int64_t state_size = t.w.K * t.w.V, length = p.sequences[static_cast<size_t>(sequence)].length;
  Chunk* c = static_cast<Chunk*>(scratch(sizeof(Chunk) + static_cast<size_t>(count * state_size) * sizeof(float)));
  float* states = reinterpret_cast<float*>(c + 1);
  const auto outside = [&](int64_t head) { return (sequence * p.HV + head) * p.K * p.state_width; };

  for (int64_t h = 0; h < count; ++h) {
    const float* initial = p.initial_state == nullptr ? nullptr : p.initial_state + outside(first_head + h);
    load_state(initial, p.state_width, p.K, p.V, t.w.K, t.w.V, states + h * state_size);
  }
  for (int64_t first = 0; first < length; first += kChunk) {
    for (int64_t h = 0; h < count; ++h) {
      const int64_t head = first_head + h;
      float* state = states + h * state_size;
      if (t.kept.states != nullptr && first % kSegment == 0) {
        const int64_t segment = t.segments[static_cast<size_t>(sequence)] + first / kSegment;
        std::memcpy(t.kept.states + (segment * p.HV + head) * t.kept_state_size, state,
                    static_cast<size_t>(state_size) * sizeof(float));
      }
      const Place next = place_of(p, sequence, head, HWY_MIN(first + kChunk, length));  // empty after the last one
      chunk<kUpdate>(t, place_of(p, sequence, head, first), next, *c, state);
    }
  }
  if (t.final_state == nullptr) return;
  for (int64_t h = 0; h < count; ++h) {
    store_state(states + h * state_size, p.state_width, p.K, p.V, t.w.K, t.final_state + outside(first_head + h));
  }
}

}  // namespace

void forward(const Problem& p, const MutableRows& o, float* final_state, const Kept& kept) {
  const std::vector<int64_t> segments = segment_offsets(p.sequences);
  const int64_t heads = p.count() * p.HV;
  const Slices slices(p.V, (threads() + heads - 1) / heads);
  const int64_t group = heads_per_task(p.count(), p.HV, kMostHeads), groups = (p.HV + group - 1) / group;
  run_tasks(p.count() * groups * slices.count, [&](int64_t i) {
    const int64_t sequence = i / slices.count / groups, first = i / slices.count % groups * group;
    const int64_t count = HWY_MIN(group, p.HV - first), column = i % slices.count * slices.columns;
    const Problem part = slice_of(p, slices, column);
    const int64_t K = padded_key(p.K);
    const Kept part_kept{shifted(kept.corrections, column), shifted(kept.states, column * K)};  // contiguous panels
    const Task task{part,        shifted(o, column), shifted(final_state, column),
                    part_kept,   segments,           K * padded_value(p.V),
                    Widths(part)};
    switch (p.update) {
      case Update::accumulate: heads_of<Update::accumulate>(task, sequence, first, count); break;
      case Update::delta: heads_of<Update::delta>(task, sequence, first, count); break;
      case Update::dplr: heads_of<Update::dplr>(task, sequence, first, count); break;
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace klab::kernels::cpu {

HWY_EXPORT(forward);

void forward(const Problem& problem, const MutableRows& o, float* final_state, const Kept& kept) {
  HWY_DYNAMIC_DISPATCH(forward)(problem, o, final_state, kept);
}

std::vector<int64_t> segment_offsets(const std::vector<Sequence>& sequences) {
  std::vector<int64_t> offsets{0};
  for (const Sequence& s : sequences) offsets.push_back(offsets.back() + (s.length + kSegment - 1) / kSegment);
  return offsets;
}

}  // namespace klab::kernels::cpu
#endif
