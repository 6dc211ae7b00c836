// SPDX-License-Identifier: Apache-2.0
// The backward pass over the state: from the last chunk to the first, the gradient of the state after each chunk. It
// mirrors the forward kernel: the same stages, the same slices of V, the gradient held transposed in registers.
#pragma once

#include "kernels/recurrence/cuda/pipeline.cuh"

namespace klab::kernels::cuda {

struct ReverseTask : Walk {
  Rows d_o;
  const float* d_final_state;  // [N, HV, K, V], or null: zeros
  float* d_initial_state;      // [N, HV, K, V], or null: not written
  void* chunk_gradients;       // of the state after each chunk: [chunk slots, HV, slices, kWidth] in the operand dtype
};

template <class Operand, bool kDplr, int kWidth>
struct Reverse : Pipeline<Operand, kDplr, kWidth> {
  using Base = Pipeline<Operand, kDplr, kWidth>;
  using Base::kTiles;
  using typename Base::Element, typename Base::Left, typename Base::StageOf;

  // The gradient of the values written with one column kind, [16 of V, 16 tokens]: through o, and through the state.
  static __device__ void of_written(const Tile (&d_state)[kTiles], const Left& d_o, const Element* query_pairs,
                                    const Element* ends, Tile (&to)[2]) {
    Base::multiply_across(to, d_o, query_pairs);
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      Base::multiply(to, Operand::left(d_state[n], d_state[n + 1]), ends + n * 8, Base::Layout::kStride);
    }
  }

  // From the gradient of the state after the chunk to that of the state before it.
  static __device__ void chunk(bool solves, const StageOf& stage, const Tile (&d_o)[2], Tile (&d_state)[kTiles]) {
    const Left d_out = Base::left(d_o);
    Tile d_reads[2] = {};
    if (solves) {
      Tile d_written[2] = {};
      of_written(d_state, d_out, stage.query_pairs(kDplr ? 1 : 0), stage.ends(kDplr ? 1 : 0), d_written);
      Base::multiply_across(d_reads, Base::left(d_written), stage.inverse());
    }
#pragma unroll
    for (int n = 0; n < 2 && !kDplr; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) d_reads[n].c[r] = -d_reads[n].c[r];  // the delta rule writes v minus the read
    }
    Base::decay_state(d_state, stage.decay());
    Base::write_state(d_state, d_out, stage.rows(1));
    if (solves) Base::write_state(d_state, Base::left(d_reads), stage.rows(0));
  }

  static __device__ void consume(const ReverseTask& task, const Share& share, int warp) {
    const int K = static_cast<int>(task.p.K), V = static_cast<int>(task.p.V), chunks = share.chunks();
    const Slice slice{(share.slice + warp) * kSlice, true};
    const bool active = share.slice + warp < task.slices, solves = task.p.update != Update::accumulate;
    const int64_t states = (share.sequence * task.p.HV + share.head) * K * V;
    const auto chunk_of = [&](int n) { return chunks - 1 - n; };
    ValueLoads<Operand> loads(task.d_o, share.span.row, share.span.start + (chunks - 1) * kChunk, -1, share.head, slice,
                              V, task.aligned.d_o, Base::values(warp));
    typename Base::StateStores gradients(task, share, slice, chunks - 1, -1, task.chunk_gradients);
    Tile d_state[kTiles];
    Base::load_state(task.d_final_state == nullptr ? nullptr : task.d_final_state + states, slice, K, V, d_state);
    if (active && chunks > 0) loads.fetch(task.d_o, chunks - 1, share.count(chunks - 1));
    const auto take = [&](int n, const StageOf& stage) {
      if (!active) return;
      gradients.store(n, d_state);
      Tile d_o[2];
      loads.tiles(chunk_of(n), d_o);
      const int next = chunk_of(n + 1);
      if (next >= 0) loads.fetch(task.d_o, next, share.count(next));
      chunk(solves, stage, d_o, d_state);
    };
    Base::consume(task, chunks, take, [](int) {});
    if (active && task.d_initial_state != nullptr) {
      Base::store_state(d_state, slice, K, V, 1, V, task.d_initial_state + states);
    }
  }

  // The work of a block.
  static __device__ __forceinline__ void run(const ReverseTask& task) {
    const Share share = share_of(task);
    const int warp = static_cast<int>(threadIdx.x / kWarp), chunks = share.chunks();
    if (warp < task.consumers) {
      consume(task, share, warp);
    } else {
      Base::produce(task, share, threadIdx.x - static_cast<unsigned>(task.consumers * kWarp),
                    [&](int n) { return chunks - 1 - n; });
    }
  }
};

template <class Operand, bool kDplr, int kWidth>
__global__ void __launch_bounds__(Pipeline<Operand, kDplr, kWidth>::kMostThreads, 1)
    reverse_kernel(const ReverseTask task) {
  Reverse<Operand, kDplr, kWidth>::run(task);
}

template <class Operand>
void launch_reverse(const ReverseTask& task, Stream stream) {
  with_shape<Operand>(task.p, [&]<class O, bool kDplr, int kWidth>() {
    using R = Reverse<O, kDplr, kWidth>;
    R::launch_walk(reverse_kernel<O, kDplr, kWidth>, task, stream);
  });
}

}  // namespace klab::kernels::cuda
