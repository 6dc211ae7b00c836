// The forward pass in one kernel. Groups of warps prepare chunks (chunk.cuh) into stages in shared memory; the other
// warps consume them one after another, each with the state of 16 columns of V in its registers, as sums of products.
// Columns of V do not know of each other, so consumers share what they read and nothing else.
//
// The state is held transposed, [16 of V, K]: as sums it is the left operand of the next product as it stands, and
// never passes through memory. Of one chunk, with rows and ends as chunk.cuh makes them (section 3.1 of
// arXiv 2510.26692, transposed):
//     reads = S rows^T;  u = (v - reads_solve) M^T;  o = reads_query + u P^T;  S = S decay + u ends
#pragma once

#include "kernels/cuda/chunk.cuh"

namespace klab::kernels::cuda {

constexpr int kSlice = 16;         ///< columns of V of one consumer warp
constexpr int kMostConsumers = 4;  ///< warps of a block

/// A sequence may be cut into parts that are walked at the same time, once the state that enters each is known.
struct Parts {
  int count = 1;       // per sequence
  int64_t tokens = 0;  // per part, a multiple of kChunk; all of them where count is 1
};

struct ForwardTask {
  Problem p;
  Parts parts;
  int slices;                    // of kSlice columns, all blocks' together
  int consumers;                 // warps per block
  MutableRows o;                 // no data: not wanted
  const float* entering_states;  // [N, parts, HV, K, V], or null: the problem's initial state (one part)
  float* final_state;            // [N, HV, K, V], or null
  // The affine map S -> M S + b of each part: M^T [N, parts, HV, K, K] and b [N, parts, HV, K, V]. Where wanted,
  // the slices of V are followed by those of K, which start from the identity and write no values.
  float* part_map;
  float* part_offset;
  void* chunk_states;  // [chunk slots, HV, padded V, kWidth] of operands entering each chunk, or null
};

// Which part of the work a block has.
struct Share {
  int64_t sequence;
  int part, head;
  SequenceSpan span;  // of the part
  int slice;          // the block's first
};

__device__ __forceinline__ Share share_of(const ForwardTask& task) {
  Share share;
  // Blocks of one head are neighbours: they prepare the same chunks, read from memory once.
  const int64_t blocks = (task.slices + task.consumers - 1) / task.consumers, row = blockIdx.x / blocks;
  share.slice = static_cast<int>(blockIdx.x % blocks) * task.consumers;
  share.head = static_cast<int>(row % task.p.HV);
  share.sequence = row / task.p.HV / task.parts.count;
  share.part = static_cast<int>(row / task.p.HV % task.parts.count);
  share.span = span_of(task.p.sequences, share.sequence);
  if (task.parts.count > 1) {
    const int64_t first = share.part * task.parts.tokens, left = share.span.length - first;
    share.span.start += first < share.span.length ? first : share.span.length;
    share.span.length = left < 0 ? 0 : left < task.parts.tokens ? left : task.parts.tokens;
  }
  return share;
}

__device__ __forceinline__ int full_barrier(int stage) { return 5 + stage; }
__device__ __forceinline__ int empty_barrier(int stage) { return 9 + stage; }

template <class Operand, bool kDplr, int kWidth>
struct Forward {
  using Layout = typename Scratch<Operand, kDplr, kWidth>::Layout;
  using Element = typename Operand::Element;
  using Left = typename Operand::Left;
  using Right = typename Operand::Right;
  using StageOf = Stage<Operand, kDplr, kWidth>;
  static constexpr int kTiles = kWidth / 8;

  static __device__ StageOf stage(int number) { return {shared_memory() + number * Layout::kStage}; }

  // --- Producers ---

  static __device__ void produce(const ForwardTask& task, const Share& share, int chunks, int thread) {
    const int number = thread / Layout::kGroupThreads, consumers = task.consumers * kWarp;
    const int both = consumers + Layout::kGroupThreads;
    const Group<Operand, kDplr, kWidth> group{
        thread % Layout::kGroupThreads, 1 + number,
        {shared_memory() + Layout::kGroups * Layout::kStage + number * Layout::kScratch}};
    const auto place = [&](int chunk) {
      return place_of(share.span, static_cast<int64_t>(chunk) * kChunk, share.head);
    };
    Channels<Operand, kDplr> c;
    if (number < chunks) fetch_chunk(task.p, place(number), group.thread, group.scratch);
    for (int chunk = number; chunk < chunks; chunk += Layout::kGroups) {
      const Place at = place(chunk);
      group.load(task.p, at, place(chunk + Layout::kGroups), c);
      group.relate(task.p, at, c);
      if (chunk >= Layout::kGroups) barrier_wait(empty_barrier(number), both);
      group.write(c, stage(number), task.p.update != Update::accumulate);
      barrier_arrive(full_barrier(number), both);
    }
  }

  // --- Consumers ---

  // A warp's columns of V, from `first`. `values`: they are those of V, else those of K in a part's map.
  struct Slice {
    int first;
    bool values;
  };

  static __device__ int64_t state_offset(const ForwardTask& task, const Share& share, int width) {
    const int64_t row = (share.sequence * task.parts.count + share.part) * task.p.HV + share.head;
    return row * task.p.K * width;
  }

  static __device__ void load_state(const ForwardTask& task, const Share& share, const Slice& slice,
                                    Tile (&state)[kTiles]) {
    const int K = static_cast<int>(task.p.K), V = static_cast<int>(task.p.V);
    const float* from = task.entering_states;
    const int g = lane() / 4, t = lane() % 4;
    if (from == nullptr && task.part_map == nullptr) from = task.p.initial_state;
    if (from != nullptr) from += state_offset(task, share, V);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int v = slice.first + g + r / 2 * 8, k = n * 8 + 2 * t + r % 2;
        float x = 0.0f;
        if (slice.values && from != nullptr && v < V && k < K) x = from[static_cast<int64_t>(k) * V + v];
        if (!slice.values && v == k) x = 1.0f;
        state[n].c[r] = x;
      }
    }
  }

  // Element (v, k) of the slice goes to to[v * v_step + k * k_step].
  static __device__ void store_state(const Tile (&state)[kTiles], const Slice& slice, int K, int width, int64_t v_step,
                                     int64_t k_step, float* to) {
    const int g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int v = slice.first + g + r / 2 * 8, k = n * 8 + 2 * t + r % 2;
        if (v < width && k < K) to[v * v_step + k * k_step] = state[n].c[r];
      }
    }
  }

  static __device__ void store_final_state(const ForwardTask& task, const Share& share, const Slice& slice,
                                           const Tile (&state)[kTiles]) {
    const int K = static_cast<int>(task.p.K), V = static_cast<int>(task.p.V);
    if (task.part_map != nullptr) {
      if (slice.values) {
        store_state(state, slice, K, V, 1, V, task.part_offset + state_offset(task, share, V));
      } else {
        store_state(state, slice, K, K, K, 1, task.part_map + state_offset(task, share, K));
      }
    } else if (task.final_state != nullptr && share.part == task.parts.count - 1) {
      const int64_t row = share.sequence * task.p.HV + share.head;
      store_state(state, slice, K, V, 1, V, task.final_state + row * K * V);
    }
  }

  // The state as operands [V][kWidth], for the backward pass.
  static __device__ void keep_state(const ForwardTask& task, const Share& share, const Slice& slice, int chunk,
                                    const Tile (&state)[kTiles]) {
    const int64_t slot = first_chunk_slot(task.p.sequences, share.sequence, share.span.start) + chunk;
    const int64_t rows = static_cast<int64_t>(task.slices) * kSlice;
    Element* to = static_cast<Element*>(task.chunk_states) + ((slot * task.p.HV + share.head) * rows + slice.first) * kWidth;
    const int g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        *reinterpret_cast<typename Operand::Packed*>(to + (g + 8 * r) * kWidth + n * 8 + 2 * t) =
            Operand::pack(state[n].c[2 * r], state[n].c[2 * r + 1]);
      }
    }
  }

  // v of a chunk, transposed: [16 of V, 16 tokens].
  static __device__ void load_values(const ForwardTask& task, const Place& at, const Slice& slice, Tile (&v)[2]) {
    const Rows& rows = task.p.v;
    const int g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int column = slice.first + g + r / 2 * 8, token = n * 8 + 2 * t + r % 2;
        const bool inside = slice.values && column < task.p.V && token < at.count;
        const int64_t from = rows.offset(at.row, at.token + token, at.head) + column;
        v[n].c[r] = inside ? Operand::widen(static_cast<const Element*>(rows.data)[from]) : 0.0f;
      }
    }
  }

  // Transposed on the way, so that a lane writes neighbouring columns of V.
  static __device__ void store_output(const MutableRows& o, const Place& at, int first, int V, const Tile (&x)[2]) {
    const int g = lane() / 4, t = lane() % 4;
    Element* to = static_cast<Element*>(o.data);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int column = first + g + r / 2 * 8, token = n * 8 + 2 * t + r % 2;
        if (column < V && token < at.count) {
          to[o.offset(at.row, at.token + token, at.head) + column] = Operand::round(x[n].c[r]);
        }
      }
    }
  }

  static __device__ Left left(const Tile (&x)[2]) { return Operand::left(x[0], x[1]); }

  // to += x times a 16 x 16 matrix stored [column of `to`][k].
  static __device__ void multiply(Tile (&to)[2], const Left& x, const Element* matrix) {
    Right b[2];
    Operand::load_right(b, matrix, kSmallStride);
    Operand::multiply(to[0], x, b[0]);
    Operand::multiply(to[1], x, b[1]);
  }

  static __device__ void consume_chunk(const ForwardTask& task, const StageOf& stage, Tile (&state)[kTiles],
                                       const Tile (&v)[2], Tile (&o)[2]) {
    const bool solves = task.p.update != Update::accumulate;
    Tile solve[2] = {};
    o[0] = o[1] = {};
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      const Left s = Operand::left(state[n], state[n + 1]);
      Right b[2];
      if (solves) {
        Operand::load_right(b, stage.rows(0) + n * 8, Layout::kStride);
        Operand::multiply(solve[0], s, b[0]);
        Operand::multiply(solve[1], s, b[1]);
      }
      Operand::load_right(b, stage.rows(1) + n * 8, Layout::kStride);
      Operand::multiply(o[0], s, b[0]);
      Operand::multiply(o[1], s, b[1]);
    }

    Left written = left(v), corrected = {};  // what goes with k and, of DPLR, with b
    if (kDplr) {
      multiply(solve, written, stage.solve_pairs());
      Tile z[2] = {};
      multiply(z, left(solve), stage.inverse());
      corrected = left(z);
    } else if (solves) {
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) solve[n].c[r] = v[n].c[r] - solve[n].c[r];
      }
      Tile u[2] = {};
      multiply(u, left(solve), stage.inverse());
      written = left(u);
    }
    multiply(o, written, stage.query_pairs(0));
    if (kDplr) multiply(o, corrected, stage.query_pairs(1));

    const int t = lane() % 4;
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const Two decay = *reinterpret_cast<const Two*>(stage.decay() + (n + m) * 8 + 2 * t);
#pragma unroll
        for (int r = 0; r < 4; ++r) state[n + m].c[r] *= r % 2 == 0 ? decay.x : decay.y;
      }
      Right b[2];
      Operand::load_right_across(b, stage.ends(0) + n * 8, Layout::kStride);
      Operand::multiply(state[n], written, b[0]);
      Operand::multiply(state[n + 1], written, b[1]);
      if (kDplr) {
        Operand::load_right_across(b, stage.ends(kDplr ? 1 : 0) + n * 8, Layout::kStride);
        Operand::multiply(state[n], corrected, b[0]);
        Operand::multiply(state[n + 1], corrected, b[1]);
      }
    }
  }

  static __device__ void consume(const ForwardTask& task, const Share& share, int chunks, int warp) {
    const int value_slices = static_cast<int>((task.p.V + kSlice - 1) / kSlice), number = share.slice + warp;
    const Slice slice{(number < value_slices ? number : number - value_slices) * kSlice, number < value_slices};
    const bool active = number < task.slices;
    const int both = task.consumers * kWarp + Layout::kGroupThreads;
    const auto place = [&](int chunk) {
      return place_of(share.span, static_cast<int64_t>(chunk) * kChunk, share.head);
    };
    Tile state[kTiles], next_v[2];
    load_state(task, share, slice, state);
    if (chunks > 0 && active) load_values(task, place(0), slice, next_v);
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const int number_of_stage = chunk % Layout::kGroups;
      barrier_wait(full_barrier(number_of_stage), both);
      if (active) {
        const Place at = place(chunk);
        if (task.chunk_states != nullptr) keep_state(task, share, slice, chunk, state);
        const Tile v[2] = {next_v[0], next_v[1]};
        if (chunk + 1 < chunks) load_values(task, place(chunk + 1), slice, next_v);  // here when it is needed
        Tile o[2];
        consume_chunk(task, stage(number_of_stage), state, v, o);
        if (task.o && slice.values) store_output(task.o, at, slice.first, static_cast<int>(task.p.V), o);
      }
      if (chunk + Layout::kGroups < chunks) barrier_arrive(empty_barrier(number_of_stage), both);
    }
    if (active) store_final_state(task, share, slice, state);
  }
};

template <class Operand, bool kDplr, int kWidth>
__global__ void __launch_bounds__((kMostConsumers + kProducerWarps) * kWarp, 1) forward_kernel(const ForwardTask task) {
  using F = Forward<Operand, kDplr, kWidth>;
  const Share share = share_of(task);
  const int chunks = static_cast<int>((share.span.length + kChunk - 1) / kChunk);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (warp < task.consumers) {
    F::consume(task, share, chunks, warp);
  } else {
    F::produce(task, share, chunks, static_cast<int>(threadIdx.x) - task.consumers * kWarp);
  }
}

template <class Operand, bool kDplr, int kWidth>
void launch_forward(const ForwardTask& task, Stream stream) {
  using Layout = typename Forward<Operand, kDplr, kWidth>::Layout;
  const int64_t blocks = (task.slices + task.consumers - 1) / task.consumers;
  const dim3 grid(static_cast<unsigned>(task.p.sequences.count * task.parts.count * task.p.HV * blocks));
  launch(forward_kernel<Operand, kDplr, kWidth>, grid,
         task.consumers * kWarp + Layout::kGroups * Layout::kGroupThreads, Layout::kTotal, stream, task);
}

/// Wider keys in float32 would not fit the stages; they go token by token.
constexpr int64_t kWidestFloat32 = 128;

/// The instances of one operand; each stands in a file of its own.
template <class Operand>
void launch_forward(const ForwardTask& task, Stream stream) {
  const auto of_width = [&]<int kWidth>() {
    if (task.p.update == Update::dplr) {
      launch_forward<Operand, true, kWidth>(task, stream);
    } else {
      launch_forward<Operand, false, kWidth>(task, stream);
    }
  };
  if (task.p.K <= 64) return of_width.template operator()<64>();
  if (task.p.K <= 128) return of_width.template operator()<128>();
  if constexpr (Operand::kDtype != Dtype::float32) return of_width.template operator()<256>();
}

/// recurrence_forward() that also keeps the state entering every chunk, unless `chunk_states` is null.
void run_forward(const Problem& problem, const MutableRows& o, float* final_state, void* chunk_states, void* workspace,
                 Stream stream);

void launch_forward_bfloat16(const ForwardTask& task, Stream stream);
void launch_forward_float16(const ForwardTask& task, Stream stream);
void launch_forward_float32(const ForwardTask& task, Stream stream);

}  // namespace klab::kernels::cuda
