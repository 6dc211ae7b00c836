// SPDX-License-Identifier: Apache-2.0
// The forward pass in one kernel. Groups of producer warps prepare chunks (chunk.cuh) into stages in shared memory; the
// consumer warps process them in order, each with the state of 16 columns of V in its registers, as accumulator tiles.
// Columns of V are independent of each other, so consumers share their inputs and nothing else.
//
// The state is held transposed, [16 of V, K]: its accumulator tiles are directly the left operand of the next product
// and never pass through memory. For one chunk, with rows and ends of chunk.cuh (section 3.1 of arXiv 2510.26692,
// transposed):
//     reads = S rows^T;  u = (v - reads_solve) M^T;  o = reads_query + u P^T;  S = S decay + u ends
#pragma once

#include "kernels/recurrence/cuda/warpgroup_chunk.cuh"

namespace klab::kernels::cuda {

struct ForwardTask : Walk {
  MutableRows o;                 // null data: not written
  bool paired_o;                 // has_paired_rows()
  const float* entering_states;  // [N, parts, HV, K, V], or null: the problem's initial state (one part)
  float* final_state;            // [N, HV, K, V], or null
  // The affine map S -> M S + b of each part: M^T [N, parts, HV, K, K] and b [N, parts, HV, K, V], or null. If they are
  // computed, the slices of V are followed by slices of K, which start from the identity and write no values.
  float *part_map, *part_offset;
  void* chunk_states;  // state before each chunk, [chunk slots, HV, slices, kWidth] in the operand dtype, or null
};

template <class Operand, bool kDplr, int kWidth>
struct Forward : Pipeline<Operand, kDplr, kWidth> {
  using Base = Pipeline<Operand, kDplr, kWidth>;
  using Base::kTiles;
  using typename Base::Left, typename Base::Right, typename Base::StageOf;

  static __device__ int64_t part_offset(const ForwardTask& task, const Share& share, int64_t width) {
    const int64_t row = (share.sequence * task.parts.count + share.part) * task.p.HV + share.head;
    return row * task.p.K * width;
  }

  static __device__ const float* entering(const ForwardTask& task, const Share& share) {
    const float* from = task.entering_states;
    if (from == nullptr && task.part_map == nullptr) from = task.p.initial_state;
    return from == nullptr ? nullptr : from + part_offset(task, share, task.p.V);
  }

  static __device__ void store_final_state(const ForwardTask& task, const Share& share, const Slice& slice,
                                           const Tile (&state)[kTiles]) {
    const int K = static_cast<int>(task.p.K), V = static_cast<int>(task.p.V);
    if (task.part_map != nullptr) {
      if (slice.values) {
        Base::store_state(state, slice, K, V, 1, V, task.part_offset + part_offset(task, share, V));
      } else {
        Base::store_state(state, slice, K, K, K, 1, task.part_map + part_offset(task, share, K));
      }
    } else if (task.final_state != nullptr && share.part == task.parts.count - 1) {
      const int64_t row = share.sequence * task.p.HV + share.head;
      Base::store_state(state, slice, K, V, 1, V, task.final_state + row * K * V);
    }
  }

  // Computes o of a chunk and updates the state. WarpgroupChunk::run() is the same with wgmma.
  static __device__ __forceinline__ void chunk(bool solves, const StageOf& stage, const Tile (&v)[2],
                                               Tile (&state)[kTiles], Tile (&o)[2]) {
    Tile solve[2] = {}, solve_odd[2] = {}, o_odd[2] = {};  // two sums each: shorter chains of dependent products
    o[0] = o[1] = {};
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      const Left s = Operand::left(state[n], state[n + 1]);
      Base::multiply(n % 4 == 0 ? solve : solve_odd, s, stage.rows(0) + n * 8, Base::Layout::kStride);
      Base::multiply(n % 4 == 0 ? o : o_odd, s, stage.rows(1) + n * 8, Base::Layout::kStride);
    }
    Base::decay_state(state, stage.decay());
    Base::add(solve_odd, solve);
    Base::add(o_odd, o);
    Left written = Base::left(v), corrected = {};  // values written with k and, for DPLR, with b
    if (kDplr) {
      Base::multiply(solve, written, stage.solve_pairs(0));
      Tile z[2] = {};
      Base::multiply(z, Base::left(solve), stage.inverse());
      corrected = Base::left(z);
    } else if (solves) {
      Base::subtract(v, solve, solve);
      Tile u[2] = {};
      Base::multiply(u, Base::left(solve), stage.inverse());
      written = Base::left(u);
    }
    Base::multiply(o, written, stage.query_pairs(0));
    if (kDplr) Base::multiply(o, corrected, stage.query_pairs(1));
    Base::write_state(state, written, stage.ends(0));
    if (kDplr) Base::write_state(state, corrected, stage.ends(1));
  }

  static __device__ void consume(const ForwardTask& task, const Share& share, int warp) {
    const int V = static_cast<int>(task.p.V), value_slices = (V + kSlice - 1) / kSlice, number = share.slice + warp;
    const Slice slice{(number < value_slices ? number : number - value_slices) * kSlice, number < value_slices};
    const bool active = number < task.slices, solves = task.p.update != Update::accumulate;
    constexpr bool kTogether =
        Base::Layout::kCoreMatrices;  // wgmma needs all warps of the warpgroup, including those without columns
    const int chunks = share.chunks();
    Tile state[kTiles], o[2];
    Base::load_state(entering(task, share), slice, static_cast<int>(task.p.K), V, state);
    ValueLoads<Operand> v_loads(task.p.v, share.span.row, share.span.start, 1, share.head, slice, V,
                                task.aligned.values, Base::values(warp));
    ValueStores<Operand> o_stores(task.o, share.span.row, share.span.start, share.head, slice, V, task.paired_o);
    typename Base::StateStores states(task, share, slice, 0, 1, task.chunk_states);
    if (chunks > 0 && active) v_loads.fetch(task.p.v, 0, share.count(0));
    const auto take = [&](int n, const StageOf& stage) {
      if (!active && !kTogether) return;
      if (active && states.to != nullptr) states.store(n, state);
      Tile v[2];
      v_loads.tiles(n, v);
      if (n + 1 < chunks && active) v_loads.fetch(task.p.v, n + 1, share.count(n + 1));
      if constexpr (kTogether) {
        WarpgroupChunk<Operand, kDplr, kWidth>::run(solves, stage, v, state, o);
      } else {
        chunk(solves, stage, v, state, o);
      }
    };
    Base::consume(task, chunks, take, [&](int n) {
      if (active && task.o && slice.values) o_stores.store(share.count(n), o);
    });
    if (active) store_final_state(task, share, slice, state);
  }

  // The work of a block.
  static __device__ __forceinline__ void run(const ForwardTask& task) {
    const Share share = share_of(task);
    const int warp = static_cast<int>(threadIdx.x / kWarp);
    if (warp < task.consumers) {
      consume(task, share, warp);
    } else {
      Base::produce(task, share, threadIdx.x - static_cast<unsigned>(task.consumers * kWarp), [](int n) { return n; });
    }
  }
};

template <class Operand, bool kDplr, int kWidth>
__global__ void __launch_bounds__(Pipeline<Operand, kDplr, kWidth>::kMostThreads, 1)
    forward_kernel(const ForwardTask task) {
  Forward<Operand, kDplr, kWidth>::run(task);
}

/// The instances for one operand dtype; each is instantiated in its own file.
template <class Operand>
void launch_forward(const ForwardTask& task, Stream stream) {
  with_shape<Operand>(task.p, [&]<class O, bool kDplr, int kWidth>() {
    using F = Forward<O, kDplr, kWidth>;
    F::launch_walk(forward_kernel<O, kDplr, kWidth>, task, stream);
  });
}

/// With wgmma: K up to 128, 16-bit operands, four consumer warps per block.
void launch_forward_warpgroups(const ForwardTask& task, Stream stream);

void launch_forward_bfloat16(const ForwardTask& task, Stream stream);
void launch_forward_float16(const ForwardTask& task, Stream stream);
void launch_forward_float32(const ForwardTask& task, Stream stream);

/// recurrence_forward() over a window, that also stores the state before every chunk, unless `chunk_states` is null.
/// The problem's initial state is the one before the window.
void run_forward(const Problem& problem, const Window& window, const MutableRows& o, float* final_state,
                 void* chunk_states, void* workspace, Stream stream);
size_t forward_workspace(const Problem& problem, const Window& window);

}  // namespace klab::kernels::cuda
