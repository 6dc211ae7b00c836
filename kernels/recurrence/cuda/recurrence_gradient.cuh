// SPDX-License-Identifier: Apache-2.0
// The last step of the backward pass: the gradients of the inputs, independently for every chunk, from the state before
// the chunk and the gradient of the state after it (recurrence_forward.cuh, recurrence_reverse.cuh).
//
// One block handles one chunk of one head. It prepares the chunk like the producers of the forward pass. Then it loops
// over blocks of columns of V: it recomputes the values that the chunk read, wrote and corrected, transposed as in the
// forward pass, and accumulates the sums over V: the gradients of rows, ends and pairs (chunk.cuh). The last step is
// the backward pass through the decays (chunk_adjoint.cuh).
#pragma once

#include "kernels/recurrence/cuda/chunk_adjoint.cuh"
#include "kernels/recurrence/cuda/pipeline.cuh"

namespace klab::kernels::cuda {

struct GradientTask {
  Problem p;
  Rows d_o;
  const void *states, *d_states;  // [chunk slots, HV, slices of V, kWidth] in the operand dtype
  int64_t state_rows;             // 16 times the number of slices
  RecurrenceGradients out;        // written, except initial_state, A_log and dt_bias
  float* d_A_log;                 // per chunk: [chunk slots, HV], or null
  float* d_dt_bias;               // per chunk: [chunk slots, HV, K or 1], or null
};

// The sequence that a chunk slot belongs to.
__device__ inline int64_t sequence_of(const Sequences& s, int64_t slot) {
  if (s.offsets == nullptr) return slot / ((s.tokens + kChunk - 1) / kChunk);
  int64_t low = 0, high = s.count;  // invariant: first slot of `low` <= slot < first slot of `high`
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (first_chunk_slot(s, middle, s.offsets[middle]) <= slot ? low : high) = middle;
  }
  return low;
}

template <class Operand, bool kDplr, int kWidth>
struct Gradient : Pipeline<Operand, kDplr, kWidth> {
  using Base = Pipeline<Operand, kDplr, kWidth>;
  using typename Base::Element, typename Base::Left, typename Base::Right, typename Base::Layout,
      typename Base::StageOf;
  using Memory = GradientLayout<sizeof(Element), kDplr ? 2 : 1, kWidth>;
  using ScratchOf = Scratch<Operand, kDplr, kWidth>;
  static constexpr int kThreads = kGradientWarps * kWarp;
  static constexpr int kTiles = kWidth / 8;
  static constexpr int kWarpChannels = kWidth / kGradientWarps;  // channels whose sums one warp computes
  static constexpr int kWarpTiles = kWarpChannels / 8;
  static constexpr int kColumns = kDplr ? 2 : 1;
  static constexpr int kRowKinds = 2 + kColumns;
  static constexpr int kStride = Layout::kStride;

  template <class T>
  static __device__ T* at(size_t offset) {
    return reinterpret_cast<T*>(shared_memory() + offset);
  }
  static __device__ int thread() { return static_cast<int>(threadIdx.x); }
  static __device__ int warp() { return thread() / kWarp; }
  static __device__ Element* state(int which) { return at<Element>(Memory::kStates + which * Memory::kState); }
  // [16][kTokenStride]: 0 d_o, 1 the gradient of the solve rows' reads, then the values written with each column kind.
  static __device__ Element* tokens(int which) { return at<Element>(Memory::kTokens + which * Memory::kToken); }
  static __device__ float& pair(int kind, int column, int i, int j) {
    return at<float>(Memory::kPairs)[((kind * kColumns + column) * kChunk + i) * kPairStride + j];
  }

  // --- One block of columns of V ---

  static __device__ void fetch_states(const GradientTask& task, int64_t row, int first) {
    constexpr int kPerRow = kWidth * static_cast<int>(sizeof(Element)) / 16;
    for (int n = thread(); n < 2 * Memory::kValueRows * kPerRow; n += kThreads) {
      const int which = n / (Memory::kValueRows * kPerRow), v = n / kPerRow % Memory::kValueRows, piece = n % kPerRow;
      const unsigned char* from = static_cast<const unsigned char*>(which == 0 ? task.states : task.d_states);
      const bool inside = first + v < task.state_rows;
      const int64_t offset = (row * task.state_rows + (inside ? first + v : 0)) * kWidth * sizeof(Element) + piece * 16;
      copy_async(reinterpret_cast<unsigned char*>(state(which) + v * kStride) + piece * 16, from + offset, inside);
    }
    copies_commit();
    copies_wait<0>();
  }

  // Adds to `to` the products of state `which` (0 S, 1 its gradient), for the 16 columns of V from `v`, with `rows`.
  static __device__ void read(int which, int v, const Element* rows, Tile (&to)[2]) {
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      Base::multiply(to, Operand::load_left(state(which) + v * kStride + n * 8, kStride), rows + n * 8, kStride);
    }
  }

  static __device__ void put_tokens(Element* to, int v, const Tile (&x)[2]) {
    const int g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        to[(n * 8 + 2 * t + r % 2) * Memory::kTokenStride + v + g + r / 2 * 8] = Operand::round(x[n].c[r]);
      }
    }
  }

  static __device__ void subtract(const Tile (&x)[2], const Tile (&y)[2], Tile (&to)[2]) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) to[n].c[r] = x[n].c[r] - y[n].c[r];
    }
  }

  // Adds sum_v x y of every token to this warp's partial gradient of beta.
  static __device__ void add_to_beta(const Tile (&x)[2], const Tile (&y)[2]) {
    float* beta = at<float>(Memory::kBeta) + warp() * kChunk;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float sum = x[n].c[r] * y[n].c[r] + x[n].c[r + 2] * y[n].c[r + 2];
#pragma unroll
        for (int step = 4; step < kWarp; step *= 2) sum += shuffle_xor(sum, step);
        if (lane() < 4) beta[n * 8 + 2 * lane() + r] += sum;
      }
    }
  }

  // A chunk's rows of width V, transposed to [16 of V, 16 tokens].
  static __device__ void load_values(const Rows& rows, const Place& at, const Slice& slice, int V, Tile (&v)[2]) {
    const int g = lane() / 4, t = lane() % 4;
    const Element* from = static_cast<const Element*>(rows.data) + rows.offset(at.row, at.token, at.head) + slice.first;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int column = g + r / 2 * 8, token = n * 8 + 2 * t + r % 2;
        const bool inside = slice.first + column < V && token < at.count;
        v[n].c[r] = inside ? Operand::widen(from[token * rows.token + column]) : 0.0f;
      }
    }
  }

  // Forward and backward of the chunk for the 16 columns [first + v, first + v + 16) of V.
  static __device__ void values(const GradientTask& task, const StageOf& stage, const Place& at, int first, int v) {
    const int V = static_cast<int>(task.p.V);
    const Slice slice{first + v, true};
    const bool solves = task.p.update != Update::accumulate;
    const ValueStores<Operand> d_v(task.out.v, at.row, at.token, at.head, slice, V);
    Tile x[2], d_o[2], solve[2] = {}, d_written[2] = {}, d_solve[2] = {};
    load_values(task.p.v, at, slice, V, x);
    load_values(task.d_o, at, slice, V, d_o);
    put_tokens(tokens(0), v, d_o);
    if (solves) read(0, v, stage.rows(0), solve);
    Base::multiply_across(d_written, Base::left(d_o), stage.query_pairs(0));
    read(1, v, stage.ends(0), d_written);
    if (kDplr) {
      Tile z[2] = {}, d_z[2] = {};
      Base::multiply(solve, Base::left(x), stage.solve_pairs(0));
      Base::multiply(z, Base::left(solve), stage.inverse());
      Base::multiply_across(d_z, Base::left(d_o), stage.query_pairs(kDplr ? 1 : 0));
      read(1, v, stage.ends(kDplr ? 1 : 0), d_z);
      Base::multiply_across(d_solve, Base::left(d_z), stage.inverse());
      Base::multiply_across(d_written, Base::left(d_solve), stage.solve_pairs(0));
      put_tokens(tokens(kDplr ? 3 : 2), v, z);
      put_tokens(tokens(2), v, x);
      d_v.store(0, at.count, d_written);
    } else if (solves) {
      Tile u[2] = {}, known[2] = {}, d_x[2] = {}, elsewhere[2] = {};
      subtract(x, solve, x);
      Base::multiply(u, Base::left(x), stage.inverse());
      Base::multiply(known, Base::left(u), stage.solve_pairs(0));
      subtract(x, known, x);  // the correction of the delta rule: u = beta x
      Base::multiply_across(d_x, Base::left(d_written), stage.inverse());
      Base::multiply_across(elsewhere, Base::left(d_x), stage.solve_pairs(0));
      subtract(d_written, elsewhere, d_written);
      add_to_beta(d_written, x);
      subtract(d_solve, d_x, d_solve);
      put_tokens(tokens(2), v, u);
      d_v.store(0, at.count, d_x);
    } else {
      put_tokens(tokens(2), v, x);
      d_v.store(0, at.count, d_written);
    }
    put_tokens(tokens(1), v, d_solve);
  }

  // This warp's accumulators: gradients of rows and ends in its channels, and of one matrix of pairs.
  struct Sums {
    Tile rows[kRowKinds][kWarpTiles];
    Tile pairs[2];
  };

  static __device__ void add_products(Sums& sums) {
    const int channel = warp() * kWarpChannels;
#pragma unroll
    for (int v = 0; v < Memory::kValueRows; v += 16) {
      Left of[kRowKinds];  // gradients of the reads, then the written values: [16 tokens, 16 of V]
#pragma unroll
      for (int kind = 0; kind < kRowKinds; ++kind) {
        const int which = kind == 0 ? 1 : kind == 1 ? 0 : kind;
        of[kind] = Operand::load_left(tokens(which) + v, Memory::kTokenStride);
      }
#pragma unroll
      for (int n = 0; n < kWarpTiles; n += 2) {
#pragma unroll
        for (int which = 0; which < 2; ++which) {
          Right s[2];
          Operand::load_right_across(s, state(which) + v * kStride + channel + n * 8, kStride);
#pragma unroll
          for (int kind = 2 * which; kind < (which == 0 ? 2 : kRowKinds); ++kind) {
            Operand::multiply(sums.rows[kind][n], of[kind], s[0]);
            Operand::multiply(sums.rows[kind][n + 1], of[kind], s[1]);
          }
        }
      }
      if (warp() < 2 * kColumns) {
        Right written[2];
        Operand::load_right(written, tokens(2 + warp() / 2) + v, Memory::kTokenStride);
        const Left by = Operand::load_left(tokens(warp() % 2 == 0 ? 1 : 0) + v, Memory::kTokenStride);
        Operand::multiply(sums.pairs[0], by, written[0]);
        Operand::multiply(sums.pairs[1], by, written[1]);
      }
    }
  }

  // Adds sum_v S dS to the gradient of the chunk's decay, for this thread's channels.
  static __device__ void add_to_decay() {
    if (thread() >= Layout::kGroupThreads) return;
    Two sum{0.0f, 0.0f};
    for (int v = 0; v < Memory::kValueRows; ++v) {
      using Packed = typename Operand::Packed;
      const auto two = [&](int which) {
        return Operand::unpack(*reinterpret_cast<const Packed*>(state(which) + v * kStride + 2 * thread()));
      };
      sum = sum + two(0) * two(1);
    }
    Two& total = *reinterpret_cast<Two*>(at<float>(Memory::kDecay) + 2 * thread());
    total = total + sum;
  }

  static __device__ void store_sums(const Sums& sums) {
    const int g = lane() / 4, t = lane() % 4;
    float* rows = at<float>(Memory::kStates);
#pragma unroll
    for (int kind = 0; kind < kRowKinds; ++kind) {
#pragma unroll
      for (int n = 0; n < kWarpTiles; ++n) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int channel = warp() * kWarpChannels + n * 8 + 2 * t;
          *reinterpret_cast<Two*>(rows + (kind * kChunk + g + 8 * r) * kWidth + channel) = {
              sums.rows[kind][n].c[2 * r], sums.rows[kind][n].c[2 * r + 1]};
        }
      }
    }
    if (warp() >= 2 * kColumns) return;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        pair(warp() % 2, warp() / 2, g + r / 2 * 8, n * 8 + 2 * t + r % 2) = sums.pairs[n].c[r];
      }
    }
  }

  // --- Levels ---

  // The gradients of a level's pairs as operands [row][column], multiplied by the columns' factors and by the rows'.
  static __device__ void write_level_pairs(int half, const ScratchOf& scratch) {
    Element* by_column = at<Element>(Memory::kLevelPairs);
    Element* by_row = by_column + kChunk * kSmallStride;
    for (int n = thread(); n < kChunk * kChunk; n += kThreads) {
      const int kind = n / 128, row = n / kChunk % 8, column = n % kChunk / 8, index = n % 8;
      const int i = upper_token(half, row), j = lower_token(half, index);
      const bool meet = same_block(half, row, index) && column < kColumns;
      const float x = meet ? pair(kind, column < kColumns ? column : 0, i, j) : 0.0f;
      const float of_row = kind == 1 ? scratch.q_factor()[i] : kDplr ? 1.0f : scratch.k_factor()[i];
      const float of_column = column == 0 ? scratch.k_factor()[j] : 1.0f;
      by_column[n / kChunk * kSmallStride + n % kChunk] = Operand::round(x * of_column);
      by_row[n / kChunk * kSmallStride + n % kChunk] = Operand::round(x * of_row);
    }
  }

  // Computes the gradients of the level's rows, then of its columns, in this warp's channels.
  static __device__ void multiply_level_pairs(const Element* level) {
    const Element* by_column = at<Element>(Memory::kLevelPairs);
    const Left pairs[2] = {Operand::load_left(by_column, kSmallStride),
                           Operand::load_left_across(by_column + kChunk * kSmallStride, kSmallStride)};
    const int g = lane() / 4, t = lane() % 4;
#pragma unroll
    for (int n = 0; n < kWarpTiles; n += 2) {
      const int channel = warp() * kWarpChannels + n * 8;
#pragma unroll
      for (int which = 0; which < 2; ++which) {
        Tile sums[2] = {};
        Right with[2];
        Operand::load_right_across(with, level + (1 - which) * kChunk * kStride + channel, kStride);
        Operand::multiply(sums[0], pairs[which], with[0]);
        Operand::multiply(sums[1], pairs[which], with[1]);
        float* to = at<float>(Memory::kStage) + which * kChunk * kWidth;
#pragma unroll
        for (int m = 0; m < 2; ++m) {
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            *reinterpret_cast<Two*>(to + (g + 8 * r) * kWidth + channel + m * 8 + 2 * t) = {sums[m].c[2 * r],
                                                                                            sums[m].c[2 * r + 1]};
          }
        }
      }
    }
  }

  // --- Writing gradients ---

  // Sums get(n), n < 32, over the threads of the group; returns the 32 sums, in shared memory.
  template <class Get>
  static __device__ const float* sum_over_group(const Group<Operand, kDplr, kWidth>& group, const Get& get) {
    float x[32];
#pragma unroll
    for (int n = 0; n < 32; ++n) x[n] = get(n);
    float* reduced = at<float>(Memory::kReduced);
    group.synchronise();
    reduced[warp() * 32 + lane()] = sum_each_of_32(x);
    group.synchronise();
    if (warp() == 0) {
      for (int other = 1; other < Layout::kGroupWarps; ++other) reduced[lane()] += reduced[other * 32 + lane()];
    }
    group.synchronise();
    return reduced;
  }

  static __device__ void store_channels(const MutableRows& rows, const Place& at, int K, int i, Two x) {
    const int channel = 2 * thread();
    const int64_t to = rows.offset(at.row, at.token + i, at.head) + channel;
    if (channel < K) store_number(rows.data, rows.dtype, to, x.x);
    if (channel + 1 < K) store_number(rows.data, rows.dtype, to + 1, x.y);
  }

  static __device__ void store_keys(const GradientTask& task, const Place& at, const ScratchOf& scratch,
                                    const Group<Operand, kDplr, kWidth>& group,
                                    const Factored<Operand, kDplr, kWidth>& x, const ChannelSums& d) {
    using Kind = Kinds<kDplr>;
    const RecurrenceProblem& p = task.p;
    const int K = static_cast<int>(p.K);
    const float* along = nullptr;  // dot products of q and k with their gradients
    if (p.l2norm) {
      along = sum_over_group(group, [&](int n) {
        const int i = n % kChunk;
        const Two y = n < kChunk ? x.q(i) * d.at(Kind::kQ, i) : x.k(i) * d.at(Kind::kK, i);
        return y.x + y.y;
      });
    }
    const float scale = p.scale == 0.0f ? 0.0f : 1.0f / (p.scale * p.scale);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      if (i >= at.count) continue;
      const float q = scratch.q_factor()[i], k = scratch.k_factor()[i];
      Two d_q = d.at(Kind::kQ, i) * q, d_k = d.at(Kind::kK, i) * k;
      if (p.l2norm) {
        d_q = d_q + x.q(i) * (-q * scale * along[i]);
        d_k = d_k + x.k(i) * (-k * along[kChunk + i]);
      }
      store_channels(task.out.q, at, K, i, d_q);
      store_channels(task.out.k, at, K, i, d_k);
      if (kDplr) store_channels(task.out.a, at, K, i, d.at(Kind::kA, i));
      if (kDplr) store_channels(task.out.b, at, K, i, d.at(Kind::kB, i));
    }
  }

  // `row` is chunk slot * HV + head.
  static __device__ void store_gates(const GradientTask& task, const Place& at, int64_t row,
                                     const Group<Operand, kDplr, kWidth>& group, const ChannelSums& d) {
    const RecurrenceProblem& p = task.p;
    const int K = static_cast<int>(p.K), channel = 2 * thread();
    const GateParameters gate = gate_parameters(p, at.head, channel);
    const auto given = [&](int i, int of) {
      return load_number(p.g.data, p.g.dtype, p.g.offset(at.row, at.token + i, at.head) + of);
    };
    float d_A_log = 0.0f;
    if (p.decay == Decay::channel) {
      Two d_bias{0.0f, 0.0f};
#pragma unroll 1
      for (int i = 0; i < at.count; ++i) {
        const Two d_g = d.at(Kinds<kDplr>::kG, i);
        Two x{0.0f, 0.0f}, d_x = d_g;
        if (p.gate != Gate::log_decay) {
          if (channel < K) x.x = given(i, channel) + gate.bias.x;
          if (channel + 1 < K) x.y = given(i, channel + 1) + gate.bias.y;
          d_x = {adjoint_of_gate(p, gate.rate, x.x, d_g.x, d_A_log),
                 adjoint_of_gate(p, gate.rate, x.y, d_g.y, d_A_log)};
          d_bias = d_bias + d_x;
        }
        store_channels(task.out.g, at, K, i, d_x);
      }
      if (task.d_dt_bias != nullptr) {
        if (channel < K) task.d_dt_bias[row * K + channel] = d_bias.x;
        if (channel + 1 < K) task.d_dt_bias[row * K + channel + 1] = d_bias.y;
      }
      if (task.d_A_log == nullptr) return;
      const float* sum = sum_over_group(group, [&](int n) { return n == 0 ? d_A_log : 0.0f; });
      if (thread() == 0) task.d_A_log[row] = sum[0];
      return;
    }
    const float* sums = sum_over_group(group, [&](int n) {
      const Two d_g = d.at(Kinds<kDplr>::kG, n % kChunk);
      return n < kChunk ? d_g.x + d_g.y : 0.0f;
    });
    if (thread() != 0) return;
    float d_bias = 0.0f;
    for (int i = 0; i < at.count; ++i) {
      const float x = p.gate == Gate::log_decay ? 0.0f : given(i, 0) + gate.bias.x;
      const float d_x = adjoint_of_gate(p, gate.rate, x, sums[i], d_A_log);
      d_bias += d_x;
      store_number(task.out.g.data, task.out.g.dtype, task.out.g.offset(at.row, at.token + i, at.head), d_x);
    }
    if (task.d_dt_bias != nullptr) task.d_dt_bias[row] = d_bias;
    if (task.d_A_log != nullptr) task.d_A_log[row] = d_A_log;
  }

  static __device__ void store_beta(const GradientTask& task, const Place& place, const ScratchOf& scratch) {
    const int i = thread();
    if (i >= place.count) return;
    float d = 0.0f;
    for (int other = 0; other < kGradientWarps; ++other) d += at<float>(Memory::kBeta)[other * kChunk + i];
    if (task.p.beta_sigmoid) {
      const float s = scratch.beta()[i] / task.p.beta_factor;
      d *= task.p.beta_factor * s * (1.0f - s);
    }
    store_number(task.out.beta.data, task.out.beta.dtype, task.out.beta.offset(place.row, place.token + i, place.head),
                 d);
  }

  // --- The chunk ---

  static __device__ void clear(const ScratchOf& scratch) {
    for (int n = thread(); n < kWidth; n += kThreads) at<float>(Memory::kDecay)[n] = 0.0f;
    for (int n = thread(); n < kGradientWarps * kChunk; n += kThreads) at<float>(Memory::kBeta)[n] = 0.0f;
    for (int n = thread(); n < kChunk / 2 * kStride; n += kThreads) {  // zeros for columns b, without DPLR
      if (!kDplr) scratch.level(0)[(kChunk + kChunk / 2) * kStride + n] = Operand::round(0.0f);
    }
  }

  static __device__ void chunk(const GradientTask& task, const Place& place, int64_t row) {
    const Problem& p = task.p;
    const ScratchOf scratch{shared_memory() + Memory::kScratch};
    const StageOf stage{shared_memory() + Memory::kStage};
    Group<Operand, kDplr, kWidth> group{thread(), 1, scratch};
    const bool in_group = thread() < Layout::kGroupThreads;
    Channels<Operand, kDplr> c;
    clear(scratch);
    if (in_group) {
      group.begin(p, place.row, place.token, place.head);
      group.fetch(p, 0, place.count);
      group.load(p, place.count, c);
      group.template relate<1>(p, c, 0, 0);
      group.template write<true>(c, stage, p.update != Update::accumulate);
    }

    Sums sums = {};
    for (int first = 0; first < p.V; first += Memory::kValueRows) {
      fetch_states(task, row, first);
      block_barrier();
      for (int v = warp() * kSlice; v < Memory::kValueRows; v += kGradientWarps * kSlice)
        values(task, stage, place, first, v);
      block_barrier();
      add_products(sums);
      add_to_decay();
      block_barrier();
    }
    store_sums(sums);
    block_barrier();

    const Factored<Operand, kDplr, kWidth> x{c, scratch};
    const ChannelSums d{at<float>(Memory::kStates) + 2 * thread(), kWidth};
    const ChannelSums of_level{at<float>(Memory::kStage) + 2 * thread(), kWidth};
    if (in_group) {
      load_channels(p, group.gate, place.count, 2 * thread(), scratch, c);
      adjoint_of_rows(x, *reinterpret_cast<const Two*>(at<float>(Memory::kDecay) + 2 * thread()), d);
      add_diagonal(x, d);
    }
#pragma unroll 1
    for (int half = kChunk / 2; half > 0; half /= 2) {
      if (in_group) write_level<Operand, kDplr, kWidth>(half, c, 2 * thread(), scratch.level(0));
      write_level_pairs(half, scratch);
      block_barrier();
      multiply_level_pairs(scratch.level(0));
      block_barrier();
      if (in_group) adjoint_of_level(half, x, of_level, d);
    }
    if (!in_group) return;
    store_keys(task, place, scratch, group, x, d);
    if (p.decay != Decay::none) store_gates(task, place, row, group, d);
    if (p.update == Update::delta) store_beta(task, place, scratch);
  }

  // The products of a query with the columns of its own token, which have no decay.
  static __device__ void add_diagonal(const Factored<Operand, kDplr, kWidth>& x, const ChannelSums& d) {
    using Kind = Kinds<kDplr>;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const float with_k = pair(1, 0, i, i);
      d.at(Kind::kQ, i) = d.at(Kind::kQ, i) + x.k(i) * with_k;
      d.at(Kind::kK, i) = d.at(Kind::kK, i) + x.q(i) * with_k;
      if (!kDplr) continue;
      const float with_b = pair(1, kDplr ? 1 : 0, i, i);
      d.at(Kind::kQ, i) = d.at(Kind::kQ, i) + x.b(i) * with_b;
      d.at(Kind::kB, i) = d.at(Kind::kB, i) + x.q(i) * with_b;
    }
  }

  // The work of a block.
  static __device__ __forceinline__ void run(const GradientTask& task) {
    const int64_t row = blockIdx.x, slot = row / task.p.HV, sequence = sequence_of(task.p.sequences, slot);
    const SequenceSpan span = span_of(task.p.sequences, sequence);
    const int64_t first = (slot - first_chunk_slot(task.p.sequences, sequence, span.start)) * kChunk;
    if (first >= span.length) return;  // packed sequences may leave slots unused
    chunk(task, place_of(span, first, static_cast<int>(row % task.p.HV)), row);
  }
};

template <class Operand, bool kDplr, int kWidth>
__global__ void __launch_bounds__(kGradientWarps* kWarp) gradient_kernel(const GradientTask task) {
  Gradient<Operand, kDplr, kWidth>::run(task);
}

template <class Operand>
void launch_gradient(const GradientTask& task, Stream stream) {
  with_shape<Operand>(task.p, [&]<class O, bool kDplr, int kWidth>() {
    using G = Gradient<O, kDplr, kWidth>;
    const dim3 grid(static_cast<unsigned>(chunk_slots(task.p.sequences) * task.p.HV));
    launch(gradient_kernel<O, kDplr, kWidth>, grid, G::kThreads, G::Memory::kTotal, stream, task);
  });
}

}  // namespace klab::kernels::cuda
