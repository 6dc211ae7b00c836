// SPDX-License-Identifier: Apache-2.0
// Shared by the kernels that process the chunks of a sequence in order (forward and reverse): the assignment of work to
// blocks, and the pipeline from producer warps, which prepare chunks into stages in shared memory, to consumer warps,
// which process the stages in order.
#pragma once

#include "kernels/recurrence/cuda/chunk.cuh"
#include "kernels/recurrence/cuda/forward_plan.h"
#include "kernels/recurrence/cuda/values.cuh"

namespace klab::kernels::cuda {

/// A walk: one pass in token order over all sequences, heads and slices of V.
struct Walk {
  Problem p;
  Window window;
  Parts parts;    // of the window
  int slices;     // of kSlice columns, in total
  int consumers;  // consumer warps per block
  int groups;     // of producer warps per block
  Alignment aligned;
  int64_t blocks_per_head() const { return (slices + consumers - 1) / consumers; }
  dim3 grid() const { return dim3(static_cast<unsigned>(p.sequences.count * parts.count * p.HV * blocks_per_head())); }
};

// The work of one block.
struct Share {
  int64_t sequence;
  int part, head;
  SequenceSpan span;  // of the part, inside the window
  int tokens;         // the span's length
  int slice;          // first slice of the block

  __device__ int chunks() const { return (tokens + kChunk - 1) / kChunk; }
  __device__ int count(int chunk) const {  // tokens of a chunk
    const int left = tokens - chunk * kChunk;
    return left < kChunk ? left : kChunk;
  }
};

// The part of a sequence that is inside a window.
__device__ __forceinline__ SequenceSpan inside(SequenceSpan span, const Window& window) {
  const int64_t left = span.length - window.first;
  span.start += window.first < span.length ? window.first : span.length;
  span.length = left < 0 ? 0 : left < window.tokens ? left : window.tokens;
  return span;
}

// Blocks of one head have adjacent indices: they prepare the same chunks, so their loads hit in the L2 cache.
__device__ __forceinline__ Share share_of(const Walk& walk) {
  const int64_t blocks = (walk.slices + walk.consumers - 1) / walk.consumers, row = blockIdx.x / blocks;
  Share share;
  share.slice = static_cast<int>(blockIdx.x % blocks) * walk.consumers;
  share.head = static_cast<int>(row % walk.p.HV);
  share.sequence = row / walk.p.HV / walk.parts.count;
  share.part = static_cast<int>(row / walk.p.HV % walk.parts.count);
  share.span = inside(span_of(walk.p.sequences, share.sequence), walk.window);
  share.span = inside(share.span, {share.part * walk.parts.tokens, walk.parts.tokens});
  share.tokens = static_cast<int>(share.span.length);
  return share;
}

template <class Operand, bool kDplr, int kWidth>
struct Pipeline {
  using Layout = typename Scratch<Operand, kDplr, kWidth>::Layout;
  using Element = typename Operand::Element;
  using Left = typename Operand::Left;
  using Right = typename Operand::Right;
  using StageOf = Stage<Operand, kDplr, kWidth>;
  static constexpr int kTiles = kWidth / 8;
  static constexpr int kMostThreads = kMostConsumers * kWarp + Layout::kGroups * Layout::kGroupThreads;

  // Shared memory: the consumers' buffers of v, then the stages, then the producers' scratch.
  static __device__ unsigned char* values(int warp) { return shared_memory() + warp * ValueLoads<Operand>::kBytes; }
  static __device__ StageOf stage(int number) { return {shared_memory() + Layout::kValues + number * Layout::kStage}; }
  static __device__ int full_barrier(int stage) { return 5 + stage; }
  static __device__ int empty_barrier(int stage) { return 9 + stage; }
  static __device__ int both(const Walk& walk) { return walk.consumers * kWarp + Layout::kGroupThreads; }
  static int threads(const Walk& walk) { return walk.consumers * kWarp + walk.groups * Layout::kGroupThreads; }

  // Launches a walk with the groups that fit in the device's shared memory.
  template <class Task>
  static void launch_walk(void (*kernel)(Task), Task task, Stream stream) {
    task.groups = Layout::groups_in(shared_memory_limit());
    launch(kernel, task.grid(), threads(task), Layout::shared(task.groups), stream, task);
  }

  // Producer loop. nth(n) is the number of the n-th chunk to prepare.
  template <class Nth>
  static __device__ __forceinline__ void produce(const Walk& walk, const Share& share, unsigned thread,
                                                 const Nth& nth) {
    const int number = static_cast<int>(thread / Layout::kGroupThreads), chunks = share.chunks();
    if (number >= chunks) return;
    Group<Operand, kDplr, kWidth> group{
        static_cast<int>(thread % Layout::kGroupThreads),
        1 + number,
        {shared_memory() + Layout::kValues + walk.groups * Layout::kStage + number * Layout::kScratch}};
    Channels<Operand, kDplr> c;
    group.begin(walk.p, walk.aligned.keys, share.span.row, share.span.start, share.head);
    group.fetch(walk.p, nth(number) * kChunk, share.count(nth(number)));
    for (int n = number; n < chunks; n += walk.groups) {
      const int next = nth(n + walk.groups);
      group.load(walk.p, share.count(nth(n)), c);
      group.template relate<Layout::kLevelsAtOnce>(walk.p, c, next * kChunk,
                                                   n + walk.groups < chunks ? share.count(next) : 0);
      if (n >= walk.groups) barrier_wait(empty_barrier(number), both(walk));
      group.write(c, stage(number), walk.p.update != Update::accumulate);
      if (Layout::kCoreMatrices) publish_to_warpgroups();
      barrier_arrive(full_barrier(number), both(walk));
    }
  }

  // Consumer loop: for each chunk, calls take(n, stage) once its stage is full, and finish(n) after it was released.
  template <class Take, class Finish>
  static __device__ void consume(const Walk& walk, int chunks, const Take& take, const Finish& finish) {
    for (int n = 0, number = 0; n < chunks; ++n) {
      barrier_wait(full_barrier(number), both(walk));
      take(n, stage(number));
      if (n + walk.groups < chunks) barrier_arrive(empty_barrier(number), both(walk));
      if (++number == walk.groups) number = 0;
      finish(n);
    }
  }

  // --- Operations of consumers on tiles ---

  static __device__ Left left(const Tile (&x)[2]) { return Operand::left(x[0], x[1]); }

  // to += x times a 16 x 16 matrix stored [column of `to`][k].
  static __device__ void multiply(Tile (&to)[2], const Left& x, const Element* matrix, int stride = kSmallStride) {
    Right b[2];
    Operand::load_right(b, matrix, stride);
    Operand::multiply(to[0], x, b[0]);
    Operand::multiply(to[1], x, b[1]);
  }

  // The same for a matrix stored [k][column of `to`].
  static __device__ void multiply_across(Tile (&to)[2], const Left& x, const Element* matrix,
                                         int stride = kSmallStride) {
    Right b[2];
    Operand::load_right_across(b, matrix, stride);
    Operand::multiply(to[0], x, b[0]);
    Operand::multiply(to[1], x, b[1]);
  }

  static __device__ void add(const Tile (&x)[2], Tile (&to)[2]) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) to[n].c[r] += x[n].c[r];
    }
  }

  // to = x - y
  static __device__ void subtract(const Tile (&x)[2], const Tile (&y)[2], Tile (&to)[2]) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) to[n].c[r] = x[n].c[r] - y[n].c[r];
    }
  }

  // Multiplies channel k of the state by decay[k].
  static __device__ void decay_state(Tile (&state)[kTiles], const float* decay) {
    const int t = lane() % 4;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const Two by = *reinterpret_cast<const Two*>(decay + n * 8 + 2 * t);
#pragma unroll
      for (int r = 0; r < 4; ++r) state[n].c[r] *= r % 2 == 0 ? by.x : by.y;
    }
  }

  // state += x times rows of keys [16 tokens][kWidth].
  static __device__ void write_state(Tile (&state)[kTiles], const Left& x, const Element* rows) {
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      Right b[2];
      Operand::load_right_across(b, rows + n * 8, Layout::kStride);
      Operand::multiply(state[n], x, b[0]);
      Operand::multiply(state[n + 1], x, b[1]);
    }
  }

  // A slice, transposed to [16 of V, K], of a state [K, V] in memory, or zeros. A slice of K starts as the identity.
  static __device__ void load_state(const float* from, const Slice& slice, int K, int V, Tile (&state)[kTiles]) {
    const int g = lane() / 4, t = lane() % 4, left = slice.first + g;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const bool diagonal = left + r / 2 * 8 == n * 8 + 2 * t + r % 2;
        state[n].c[r] = !slice.values && diagonal ? 1.0f : 0.0f;
      }
    }
    if (!slice.values || from == nullptr) return;
    const float* const at = from + 2 * t * V + slice.first + g;
    int step = 0;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        if (left + r / 2 * 8 < V && n * 8 + 2 * t + r % 2 < K) state[n].c[r] = at[step + r % 2 * V + r / 2 * 8];
      }
      step = opaque(step + 8 * V);
    }
  }

  // Element (v, k) of the slice goes to to[v * v_step + k * k_step].
  static __device__ void store_state(const Tile (&state)[kTiles], const Slice& slice, int K, int width, int v_step,
                                     int k_step, float* to) {
    const int g = lane() / 4, t = lane() % 4, left = slice.first + g;
    float* const at = to + left * v_step + 2 * t * k_step;
    int step = 0;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        if (left + r / 2 * 8 < width && n * 8 + 2 * t + r % 2 < K)
          at[step + r / 2 * 8 * v_step + r % 2 * k_step] = state[n].c[r];
      }
      step = opaque(step + 8 * k_step);
    }
  }

  // Stores the state of one chunk after the other, from `first_chunk` on forwards (direction 1) or backwards (-1), for
  // the gradient kernel: in the operand dtype, [slices of V, kWidth], in the order of state_position(), 16 bytes at a
  // time.
  struct StateStores {
    Element* to;   // this lane's part of the state of `first_chunk`; null: states are not stored
    int64_t step;  // from there to the next chunk's

    __device__ StateStores(const Walk& walk, const Share& share, const Slice& slice, int first_chunk, int direction,
                           void* states)
        : to(static_cast<Element*>(states)) {
      const int64_t slot_size = walk.p.HV * walk.slices * kSlice * kWidth;
      step = direction * slot_size;
      if (to == nullptr) return;
      const int64_t start = share.span.start - share.part * walk.parts.tokens;
      const int64_t slot = first_chunk_slot(walk.p.sequences, walk.window, share.sequence, start) +
                           share.part * walk.parts.tokens / kChunk + first_chunk;
      const int64_t row = static_cast<int64_t>(share.head) * walk.slices * kSlice + slice.first + lane() / 4;
      to += slot * slot_size + row * kWidth + lane() % 4 * (kWidth / 4);
    }

    // `chunk` counts from `first_chunk`, in the direction.
    __device__ void store(int chunk, const Tile (&state)[kTiles]) const {
      using Packed = typename Operand::Packed;
      constexpr int kCount = 16 / sizeof(Packed);
      struct alignas(16) Block {
        Packed x[kCount];
      };
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        Block* row = reinterpret_cast<Block*>(to + chunk * step + 8 * r * kWidth);
#pragma unroll
        for (int n = 0; n < kTiles; n += kCount) {
          Block block;
#pragma unroll
          for (int m = 0; m < kCount; ++m) block.x[m] = Operand::pack(state[n + m].c[2 * r], state[n + m].c[2 * r + 1]);
          row[n / kCount] = block;
        }
      }
    }
  };
};

/// Calls run.operator()<Operand, kDplr, kWidth>() for the problem.
template <class Operand, class Run>
void with_shape(const Problem& p, const Run& run) {
  const auto of_width = [&]<int kWidth>() {
    if (p.update == Update::dplr) {
      run.template operator()<Operand, true, kWidth>();
    } else {
      run.template operator()<Operand, false, kWidth>();
    }
  };
  if (p.K <= 64) return of_width.template operator()<64>();
  if (p.K <= 128) return of_width.template operator()<128>();
  if constexpr (Operand::kDtype != Dtype::float32) return of_width.template operator()<256>();
}

}  // namespace klab::kernels::cuda
