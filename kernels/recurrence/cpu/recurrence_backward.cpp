// SPDX-License-Identifier: Apache-2.0
// The backward pass, segment by segment from the last to the first. It recomputes the states before a segment's chunks
// from the state that the forward pass kept, then processes the chunks in reverse with the gradient of the state.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/recurrence/cpu/recurrence_backward.cpp"
#include "kernels/common/cpu/targets.h"
// Must come before the headers that are compiled once per instruction set:
#include "hwy/aligned_allocator.h"
#include "hwy/foreach_target.h"
#include "kernels/common/cpu/workers.h"
#include "kernels/recurrence/cpu/chunk_gradients-inl.h"
#include "kernels/recurrence/cpu/slice-inl.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kChunksPerSegment = kSegment / kChunk;

// One head of one sequence.
struct Head {
  int64_t sequence, head, length;

  int64_t segments() const { return (length + kSegment - 1) / kSegment; }
  int64_t chunks_of(int64_t segment) const {
    return (HWY_MIN(kSegment, length - segment * kSegment) + kChunk - 1) / kChunk;
  }
  Place chunk(const Problem& p, int64_t segment, int64_t n) const {
    return place_of(p, sequence, head, segment * kSegment + n * kChunk);
  }
  // The chunk before this one, which is processed after it; empty before the first one. Of the segment before, the
  // first one, whose states are recomputed first.
  Place next(const Problem& p, int64_t segment, int64_t n) const {
    Place place = n > 0 ? chunk(p, segment, n - 1) : chunk(p, HWY_MAX(segment - 1, 0), 0);
    if (n == 0 && segment == 0) place.count = 0;
    return place;
  }
};

Head head_of(const Problem& p, int64_t i) {
  const int64_t sequence = i / p.HV;
  return {sequence, i % p.HV, p.sequences[static_cast<size_t>(sequence)].length};
}

// The states before the chunks of a segment, into states [chunks][state_size].
template <Update kUpdate>
void recompute_states(const Task& t, const Head& h, int64_t segment, Chunk& c, float* states) {
  const int64_t state_size = t.w.K * t.w.V, kept = t.segments[static_cast<size_t>(h.sequence)] + segment;
  std::memcpy(states, t.kept.states + (kept * t.p.HV + h.head) * state_size,
              static_cast<size_t>(state_size) * sizeof(float));
  for (int64_t n = 0; n + 1 < h.chunks_of(segment); ++n) {
    const Place at = h.chunk(t.p, segment, n);
    prepare_columns<kUpdate>(t.p, t.w, at, c);
    load_values<kUpdate>(t, at, c);
    write_state(c.decay, c.ends[0][0], c.values[0][0], Shape<kUpdate>::kColumnCount, t.w.K, t.w.V,
                states + n * state_size, states + (n + 1) * state_size);
  }
}

void add(const HeadSums& part, HeadSums& sums) {
  for (int64_t n = 0; n < kMaxHeadDim; ++n) sums.dt_bias[n] += part.dt_bias[n];
  sums.A_log += part.A_log;
}

int64_t outside(const Problem& p, const Head& h) { return (h.sequence * p.HV + h.head) * p.K * p.state_width; }

void load_final(const Task& t, const Head& h, float* d_state) {
  const float* from = t.d_final_state == nullptr ? nullptr : t.d_final_state + outside(t.p, h);
  load_state(from, t.p.state_width, t.p.K, t.p.V, t.w.K, t.w.V, d_state);
}

// Writes the gradients of the initial state and of the gate parameters, which are sums over tokens.
void store_head(const Task& t, const Head& h, const float* d_state, const HeadSums& sums) {
  const Problem& p = t.p;
  if (t.out.initial_state != nullptr) {
    store_state(d_state, p.state_width, p.K, p.V, t.w.K, t.out.initial_state + outside(p, h));
  }
  const int64_t per_head = p.decay == Decay::channel ? p.K : 1, row = h.sequence * p.HV + h.head;
  if (t.out.A_log != nullptr) t.out.A_log[row] = sums.A_log;
  if (t.out.dt_bias != nullptr) {
    std::memcpy(t.out.dt_bias + row * per_head, sums.dt_bias, static_cast<size_t>(per_head) * sizeof(float));
  }
}

// All of a head on one thread.
template <Update kUpdate>
void whole_head(const Task& t, const Head& h) {
  const int64_t state_size = t.w.K * t.w.V;
  const size_t floats = static_cast<size_t>((kChunksPerSegment + 1) * state_size);
  Workspace& space = *static_cast<Workspace*>(scratch(sizeof(Workspace) + floats * sizeof(float)));
  float* states = reinterpret_cast<float*>(&space + 1);
  float* d_state = states + kChunksPerSegment * state_size;
  HeadSums sums{};
  load_final(t, h, d_state);
  for (int64_t segment = h.segments(); segment-- > 0;) {
    space.sums = {};
    recompute_states<kUpdate>(t, h, segment, space.c, states);
    for (int64_t n = h.chunks_of(segment); n-- > 0;) {
      const Place at = h.chunk(t.p, segment, n);
      prepare<kUpdate>(t, at, space);
      gradients_of_values<kUpdate>(t, h.next(t.p, segment, n), space, d_state);
      gradients_of_inputs<kUpdate>(t, at, space, states + n * state_size, d_state);
      gradient_of_state<kUpdate>(t, space, d_state, d_state);
    }
    add(space.sums, sums);
  }
  store_head(t, h, d_state, sums);
}

// --- Fewer heads than threads -----------------------------------------------------------------------------------
//
// The gradient of the state passes from chunk to chunk, but its columns are independent, and once it is known segments
// are. So a window of segments takes two steps: gradients of values and states, in parallel over slices of columns, and
// then gradients of inputs, in parallel over segments, while the first step goes on with the window before. Every
// number is computed as by one thread.

// What the first step leaves for the second, in a window of one head.
struct Window {
  float* d_states;  // [chunks + 1][state size]: before each chunk, and after the last one
  float* d_values;  // [chunks][columns kChunk][V]
};

struct SplitHead {
  Head h;
  Window windows[2];                     // in turn
  std::vector<HeadSums> segment_sums{};  // of a window
  HeadSums sums{};
};

template <Update kUpdate>
struct Split {
  const Task& t;
  int64_t segments;  // of a window

  int64_t state_size() const { return t.w.K * t.w.V; }
  int64_t values_size() const { return Shape<kUpdate>::kColumnCount * t.w.V; }
  int64_t chunks() const { return segments * kChunksPerSegment; }

  // Segments [first, end) of the `round`th window from the end.
  int64_t end(const Head& h, int64_t round) const { return h.segments() - round * segments; }
  int64_t first(const Head& h, int64_t round) const { return HWY_MAX(end(h, round) - segments, 0); }
};

// The first step, for a slice of V that begins at `column`.
template <Update kUpdate>
void window_states(const Split<kUpdate>& split, const Task& slice, int64_t column, int64_t round,
                   const SplitHead& own) {
  const Head& h = own.h;
  const int64_t first = split.first(h, round), end = split.end(h, round);
  if (end <= 0) return;
  const Window &window = own.windows[round % 2], &later = own.windows[(round + 1) % 2];
  const int64_t offset = column * slice.w.K;  // panels of columns are contiguous
  const auto d_state = [&](int64_t chunk) { return window.d_states + chunk * split.state_size() + offset; };
  int64_t chunk = (end - 1 - first) * kChunksPerSegment + h.chunks_of(end - 1);
  std::memcpy(d_state(chunk), later.d_states + offset, static_cast<size_t>(slice.w.K * slice.w.V) * sizeof(float));
  Workspace& space = *static_cast<Workspace*>(scratch(sizeof(Workspace)));
  for (int64_t segment = end; segment-- > first;) {
    for (int64_t n = h.chunks_of(segment); n-- > 0;) {
      --chunk;
      prepare<kUpdate>(slice, h.chunk(slice.p, segment, n), space);
      gradients_of_values<kUpdate>(slice, h.next(slice.p, segment, n), space, d_state(chunk + 1));
      gradient_of_state<kUpdate>(slice, space, d_state(chunk + 1), d_state(chunk));
      for (int64_t row = 0; row < Shape<kUpdate>::kColumnCount; ++row) {
        std::memcpy(window.d_values + chunk * split.values_size() + row * split.t.w.V + column,
                    space.d.values[row / kChunk][row % kChunk], static_cast<size_t>(slice.w.V) * sizeof(float));
      }
    }
  }
}

// What the first step found for a chunk, as gradients_of_values() leaves it.
template <Update kUpdate>
void load_gradients(const Widths& w, const float* d_values, const Chunk& c, Adjoint& d) {
  using S = Shape<kUpdate>;
  for (int64_t row = 0; row < S::kColumnCount; ++row) {
    std::memcpy(d.values[row / kChunk][row % kChunk], d_values + row * w.V, static_cast<size_t>(w.V) * sizeof(float));
  }
  for (int64_t i = 0; kUpdate != Update::accumulate && i < kChunk; ++i) {
    for (int64_t n = 0; n < w.V; n += kLanes) {
      store(gradient_of_read<kUpdate>(c, i, load(d.values[S::kColumns - 1][i] + n)), d.reads[0][i] + n);
    }
  }
}

// The second step, for the `i`th segment of a window.
template <Update kUpdate>
void window_inputs(const Split<kUpdate>& split, int64_t i, int64_t round, SplitHead& own) {
  const Task& t = split.t;
  const Head& h = own.h;
  const Window& window = own.windows[round % 2];
  const int64_t segment = split.first(h, round) + i, state_size = split.state_size();
  if (segment >= split.end(h, round)) return;
  const size_t floats = static_cast<size_t>(kChunksPerSegment * state_size);
  Workspace& space = *static_cast<Workspace*>(scratch(sizeof(Workspace) + floats * sizeof(float)));
  float* states = reinterpret_cast<float*>(&space + 1);
  space.sums = {};
  recompute_states<kUpdate>(t, h, segment, space.c, states);
  for (int64_t n = h.chunks_of(segment); n-- > 0;) {
    const Place at = h.chunk(t.p, segment, n);
    const int64_t chunk = i * kChunksPerSegment + n;
    prepare<kUpdate>(t, at, space);
    load_gradients<kUpdate>(t.w, window.d_values + chunk * split.values_size(), space.c, space.d);
    gradients_of_inputs<kUpdate>(t, at, space, states + n * state_size, window.d_states + (chunk + 1) * state_size);
  }
  own.segment_sums[static_cast<size_t>(i)] = space.sums;
}

void add_segments(SplitHead& own, int64_t count) {
  for (int64_t i = count; i-- > 0;) add(own.segment_sums[static_cast<size_t>(i)], own.sums);
}

template <Update kUpdate>
void split_heads(const Task& t, int64_t most_segments) {
  constexpr int64_t kMostSegments = 16;  // more need more memory than they save time
  const int64_t heads = t.p.count() * t.p.HV, threads_per_head = (threads() + heads - 1) / heads;
  // While there is a second step, half of the threads take it.
  const Slices at_first(t.p.V, threads_per_head), later(t.p.V, (threads_per_head + 1) / 2);
  const Split<kUpdate> split{t, HWY_MIN(HWY_MIN(2 * threads_per_head, kMostSegments), most_segments)};
  const int64_t d_states = (split.chunks() + 1) * split.state_size();
  const int64_t floats = d_states + split.chunks() * split.values_size();
  const auto buffer = hwy::AllocateAligned<float>(static_cast<size_t>(2 * heads * floats));
  if (!buffer) throw std::bad_alloc();
  const auto window = [&](int64_t i) {
    return Window{buffer.get() + i * floats, buffer.get() + i * floats + d_states};
  };
  std::vector<SplitHead> all;
  for (int64_t i = 0; i < heads; ++i) {
    all.push_back({head_of(t.p, i), {window(2 * i), window(2 * i + 1)}});
    all.back().segment_sums.resize(static_cast<size_t>(split.segments));
    load_final(t, all.back().h, all.back().windows[1].d_states);
  }
  const auto states = [&](const Slices& slices, int64_t i, int64_t round) {
    const int64_t column = i % slices.count * slices.columns;
    const Problem p = slice_of(t.p, slices, column);
    const Kept kept{shifted(t.kept.corrections, column), nullptr};
    const Task slice{p, shifted(t.d_o, column), nullptr, kept, t.out, t.segments, Widths(p)};
    window_states<kUpdate>(split, slice, column, round, all[static_cast<size_t>(i / slices.count)]);
  };
  for (int64_t round = 0; (round - 1) * split.segments < most_segments; ++round) {
    const Slices& slices = round == 0 ? at_first : later;
    const int64_t first_step = heads * slices.count, second_step = round == 0 ? 0 : heads * split.segments;
    run_tasks(first_step + second_step, [&](int64_t i) {
      if (i < first_step) return states(slices, i, round);
      i -= first_step;
      window_inputs<kUpdate>(split, i % split.segments, round - 1, all[static_cast<size_t>(i / split.segments)]);
    });
    if (round == 0) continue;
    for (SplitHead& own : all) add_segments(own, split.end(own.h, round - 1) - split.first(own.h, round - 1));
  }
  for (const SplitHead& own : all) {
    const int64_t rounds = (own.h.segments() + split.segments - 1) / split.segments;
    store_head(t, own.h, own.windows[(rounds + 1) % 2].d_states, own.sums);
  }
}

template <Update kUpdate>
void backward_of(const Task& t) {
  const int64_t heads = t.p.count() * t.p.HV;
  int64_t most_segments = 0;
  for (int64_t i = 0; i < heads; ++i) most_segments = HWY_MAX(most_segments, head_of(t.p, i).segments());
  if (heads < threads() && most_segments > 1) return split_heads<kUpdate>(t, most_segments);
  run_tasks(heads, [&](int64_t i) { whole_head<kUpdate>(t, head_of(t.p, i)); });
}

}  // namespace

void backward(const Problem& p, const Rows& d_o, const float* d_final_state, const Kept& kept, const Gradients& out) {
  const std::vector<int64_t> segments = segment_offsets(p.sequences);
  const Task task{p, d_o, d_final_state, kept, out, segments, Widths(p)};
  switch (p.update) {
    case Update::accumulate: return backward_of<Update::accumulate>(task);
    case Update::delta: return backward_of<Update::delta>(task);
    case Update::dplr: return backward_of<Update::dplr>(task);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace klab::kernels::cpu {

HWY_EXPORT(backward);

void backward(const Problem& problem, const Rows& d_o, const float* d_final_state, const Kept& kept,
              const Gradients& gradients) {
  HWY_DYNAMIC_DISPATCH(backward)(problem, d_o, d_final_state, kept, gradients);
}

}  // namespace klab::kernels::cpu
#endif
