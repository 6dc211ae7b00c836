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
  Window window;
  Alignment aligned;
  Rows d_o;
  const void *states, *d_states;  // [chunk slots, HV, slices of V, kWidth] in the operand dtype
  int64_t state_rows;             // 16 times the number of slices
  RecurrenceGradients out;        // written, except initial_state, A_log and dt_bias
  bool paired_d_v;                // has_paired_rows() of out.v
  float* d_A_log;                 // per chunk: [chunk slots, HV], or null
  float* d_dt_bias;               // per chunk: [chunk slots, HV, K or 1], or null
};

// The sequence that a chunk slot of a window belongs to.
__device__ inline int64_t sequence_of(const Sequences& s, const Window& window, unsigned slot) {
  if (s.count == 1) return 0;
  if (window.tokens < s.tokens) return slot / static_cast<unsigned>(window.tokens / kChunk);
  if (s.offsets == nullptr) return slot / static_cast<unsigned>((s.tokens + kChunk - 1) / kChunk);
  int64_t low = 0, high = s.count;  // invariant: first slot of `low` <= slot < first slot of `high`
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (first_chunk_slot(s, middle, s.offsets[middle]) <= slot ? low : high) = middle;
  }
  return low;
}

// An operand whose rows have the channels in the order of the kept states.
template <class Operand>
struct StateOrdered : Operand {
  static constexpr TileOrder kOrder = TileOrder::rows_of_states;
};

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

  // Starts to load the columns of V from `first`: the two states, d_o and v.
  static __device__ __forceinline__ void fetch_values(const GradientTask& task, const Place& place, int64_t row,
                                                      int first) {
    constexpr int kElement = sizeof(Element), kPerRow = kWidth * kElement / 16, kRowStep = kThreads / kPerRow;
    static_assert(Memory::kValueRows % kRowStep == 0 && kSlice % kRowStep == 0);
    const int v = thread() / kPerRow, byte = thread() % kPerRow * 16;
    const int64_t own = ((row * task.state_rows + first + v) * kWidth) * kElement + byte;
#pragma unroll
    for (int which = 0; which < 2; ++which) {
      const auto* from = static_cast<const unsigned char*>(which == 0 ? task.states : task.d_states);
      unsigned char* to = reinterpret_cast<unsigned char*>(state(which) + v * kStride) + byte;
#pragma unroll
      for (int n = 0; n < Memory::kValueRows; n += kRowStep) {
        const bool inside = first + n < task.state_rows;  // state_rows is a multiple of 16
        copy_async(to + n * kStride * kElement, from + own + n * kWidth * kElement, inside);
      }
    }
    const int left = static_cast<int>(task.p.V) - first;
    fetch_rows(task.d_o, place, first, left, task.aligned.d_o, tokens(0));
    fetch_rows(task.p.v, place, first, left, task.aligned.values, at<Element>(Memory::kValues));
    copies_commit();
  }

  // Columns from `first` of rows of width V, as [16][kTokenStride].
  static __device__ __forceinline__ void fetch_rows(const Rows& rows, const Place& place, int first, int left,
                                                    bool aligned, Element* to) {
    constexpr int kElement = sizeof(Element), kAll = kChunk * Memory::kValueRows * kElement / 16;
    constexpr int kCopiers = kAll < kThreads ? kAll : kThreads;
    using Copies = RowCopies<kElement, Memory::kValueRows, Memory::kTokenStride, kCopiers>;
    if (thread() >= kCopiers) return;
    const unsigned char* from = Copies::source(rows, place.row, place.token, place.head, aligned, thread());
    from += first * kElement;
    if (aligned) {
      Copies::template start<false>(rows, from, place.count, left, to, thread());
    } else {
      Copies::copy(rows, from, 0, place.count, left, to, thread());
    }
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

  // Forward and backward of the chunk for the 16 columns [first + v, first + v + 16) of V.
  static __device__ void values(const GradientTask& task, const StageOf& stage, const Place& at, int first, int v) {
    const int V = static_cast<int>(task.p.V);
    const Slice slice{first + v, true};
    const bool solves = task.p.update != Update::accumulate;
    ValueStores<Operand> d_v(task.out.v, at.row, at.token, at.head, slice, V, task.paired_d_v);
    Tile x[2], d_o[2], solve[2] = {}, d_written[2] = {}, d_solve[2] = {};
    Operand::tiles(Operand::load_left_across(Gradient::at<Element>(Memory::kValues) + v, Memory::kTokenStride), x);
    Operand::tiles(Operand::load_left_across(tokens(0) + v, Memory::kTokenStride), d_o);
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
      d_v.store(at.count, d_written);
    } else if (solves) {
      Tile u[2] = {}, known[2] = {}, d_x[2] = {}, elsewhere[2] = {};
      Base::subtract(x, solve, x);
      Base::multiply(u, Base::left(x), stage.inverse());
      Base::multiply(known, Base::left(u), stage.solve_pairs(0));
      Base::subtract(x, known, x);  // the correction of the delta rule: u = beta x
      Base::multiply_across(d_x, Base::left(d_written), stage.inverse());
      Base::multiply_across(elsewhere, Base::left(d_x), stage.solve_pairs(0));
      Base::subtract(d_written, elsewhere, d_written);
      add_to_beta(d_written, x);
      Base::subtract(d_solve, d_x, d_solve);
      put_tokens(tokens(2), v, u);
      d_v.store(at.count, d_x);
    } else {
      put_tokens(tokens(2), v, x);
      d_v.store(at.count, d_written);
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

  // Adds sum_v S dS, of this thread's channels and its part of the columns of V, to the gradient of the chunk's decay.
  static __device__ __forceinline__ void add_to_decay(Two& sum) {
    using Packed = typename Operand::Packed;
    constexpr int kRows = Memory::kValueRows / Memory::kDecayParts;
    const int channel = thread() % Layout::kGroupThreads * 2, first = thread() / Layout::kGroupThreads * kRows;
    const Element* s = state(0) + first * kStride + state_position<kWidth>(channel);
    const Element* d_s = state(1) + first * kStride + state_position<kWidth>(channel);
#pragma unroll 8
    for (int v = 0; v < kRows; ++v) {
      sum = sum + Operand::unpack(*reinterpret_cast<const Packed*>(s + v * kStride)) *
                      Operand::unpack(*reinterpret_cast<const Packed*>(d_s + v * kStride));
    }
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
          const int channel = channel_at<kWidth>(warp() * kWarpChannels + n * 8 + 2 * t);
          *reinterpret_cast<Two*>(rows + (kind * kChunk + g + 8 * r) * Memory::kSumStride + channel) = {
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
        float* to = at<float>(Memory::kStage) + which * kChunk * Memory::kLevelStride;
#pragma unroll
        for (int m = 0; m < 2; ++m) {
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            *reinterpret_cast<Two*>(to + (g + 8 * r) * Memory::kLevelStride + channel + m * 8 + 2 * t) = {
                sums[m].c[2 * r], sums[m].c[2 * r + 1]};
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

  // Stores get(i), this thread's channels of token i, for every token of the chunk.
  template <class Get>
  static __device__ __forceinline__ void store_channels(const MutableRows& rows, const Place& at, int K,
                                                        const Get& get) {
    if constexpr (Operand::kDtype != Dtype::float32) {
      if (rows.dtype == Operand::kDtype) return store_channels_as<Operand::kDtype>(rows, at, K, get);
    }
    store_channels_as<Dtype::float32>(rows, at, K, get);
  }

  template <Dtype kDtype, class Get>
  static __device__ __forceinline__ void store_channels_as(const MutableRows& rows, const Place& at, int K,
                                                           const Get& get) {
    using Number = std::conditional_t<kDtype == Dtype::float32, float, uint16_t>;
    const int channel = 2 * thread();
    if (channel >= K) return;
    Number* to = static_cast<Number*>(rows.data) + rows.offset(at.row, at.token, at.head) + channel;
    const int64_t stride = rows.token;
    const bool pairs =
        channel + 1 < K && reinterpret_cast<uintptr_t>(to) % (2 * sizeof(Number)) == 0 && stride % 2 == 0;
    if (pairs && at.count == kChunk) {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        store_two(to, kDtype, 0, get(i));
        to += stride;
      }
    } else {
#pragma unroll
      for (int i = 0; i < kChunk; ++i) {
        const Two x = get(i);
        if (i < at.count) store_number(to, kDtype, 0, x.x);
        if (i < at.count && channel + 1 < K) store_number(to, kDtype, 1, x.y);
        to += stride;
      }
    }
  }

  template <class ChannelGradients>
  static __device__ void store_keys(const GradientTask& task, const Place& at, const ScratchOf& scratch,
                                    const Group<Operand, kDplr, kWidth>& group,
                                    const Factored<Operand, kDplr, kWidth>& x, ChannelGradients& d) {
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
    // From the gradient of a factored input, and how far it lies along that input, to the gradient of the input.
    const auto without_factor = [](Two d_factored, float factor, Two factored, float length) {
      return d_factored * factor + factored * (-factor * length);
    };
    store_channels(task.out.q, at, K, [&](int i) {
      return without_factor(d.at(Kind::kQ, i), scratch.q_factor()[i], x.q(i), p.l2norm ? scale * along[i] : 0.0f);
    });
    store_channels(task.out.k, at, K, [&](int i) {
      return without_factor(d.at(Kind::kK, i), scratch.k_factor()[i], x.k(i), p.l2norm ? along[kChunk + i] : 0.0f);
    });
    if (kDplr) store_channels(task.out.a, at, K, [&](int i) { return d.at(Kind::kA, i); });
    if (kDplr) store_channels(task.out.b, at, K, [&](int i) { return d.at(Kind::kB, i); });
  }

  // `row` is chunk slot * HV + head.
  template <class ChannelGradients>
  static __device__ void store_gates(const GradientTask& task, const Place& at, int64_t row,
                                     const Group<Operand, kDplr, kWidth>& group, ChannelGradients& d) {
    using Kind = Kinds<kDplr>;
    const RecurrenceProblem& p = task.p;
    const int K = static_cast<int>(p.K), channel = 2 * thread();
    if (p.decay == Decay::channel && p.gate == Gate::log_decay) {
      return store_channels(task.out.g, at, K, [&](int i) { return d.at(Kind::kG, i); });
    }
    const GateParameters gate = gate_parameters(p, at.head, channel);
    const auto given = [&](int i, int of) {
      return load_number(p.g.data, p.g.dtype, p.g.offset(at.row, at.token + i, at.head) + of);
    };
    float d_A_log = 0.0f;
    if (p.decay == Decay::channel) {
      Two d_bias{0.0f, 0.0f};
      store_channels(task.out.g, at, K, [&](int i) {
        const Two d_g = d.at(Kind::kG, i);
        Two x{0.0f, 0.0f};
        if (i >= at.count) return x;
        if (channel < K) x.x = given(i, channel) + gate.bias.x;
        if (channel + 1 < K) x.y = given(i, channel + 1) + gate.bias.y;
        const Two d_x{adjoint_of_gate(p, gate.rate, x.x, d_g.x, d_A_log),
                      adjoint_of_gate(p, gate.rate, x.y, d_g.y, d_A_log)};
        d_bias = d_bias + d_x;
        return d_x;
      });
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
      const Two d_g = d.at(Kind::kG, n % kChunk);
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
    for (int n = thread(); n < kGradientWarps * kChunk; n += kThreads) at<float>(Memory::kBeta)[n] = 0.0f;
    for (int n = thread(); n < kChunk / 2 * kStride; n += kThreads) {  // zeros for columns b, without DPLR
      if (!kDplr) scratch.level(0)[(kChunk + kChunk / 2) * kStride + n] = Operand::round(0.0f);
    }
  }

  static __device__ void chunk(const GradientTask& task, const Place& place, int64_t row) {
    const Problem& p = task.p;
    const ScratchOf scratch{at<unsigned char>(Memory::kScratch)};
    const StageOf stage{at<unsigned char>(Memory::kStage)};
    Group<Operand, kDplr, kWidth> group{thread(), 1, scratch};
    const bool in_group = thread() < Layout::kGroupThreads;
    Channels<Operand, kDplr> c;
    if (in_group) {
      group.begin(p, task.aligned.keys, place.row, place.token, place.head);
      group.fetch(p, 0, place.count);
    }
    fetch_values(task, place, row, 0);
    clear(scratch);
    if (in_group) {
      group.template load<1>(p, place.count, c);
      group.template relate<1>(p, c, 0, 0);
      group.template write<true>(c, stage, p.update != Update::accumulate);
    }

    Sums sums = {};
    Two d_decay{0.0f, 0.0f};
    for (int first = 0; first < p.V; first += Memory::kValueRows) {
      copies_wait<0>();
      block_barrier();
      for (int v = warp() * kSlice; v < Memory::kValueRows; v += kGradientWarps * kSlice)
        values(task, stage, place, first, v);
      block_barrier();
      add_products(sums);
      add_to_decay(d_decay);
      block_barrier();
      if (first + Memory::kValueRows < p.V) fetch_values(task, place, row, first + Memory::kValueRows);
    }
    store_sums(sums);
    *reinterpret_cast<Two*>(at<float>(Memory::kDecay) + 2 * thread()) = d_decay;
    block_barrier();

    const ChannelSums of_rows{at<float>(Memory::kStates) + 2 * thread(), Memory::kSumStride};
    if constexpr (!kDplr && sizeof(Element) == 2) {
      ChannelRegisters<Memory::kSums> d;
      if (in_group) d.load(of_rows);
      finish(task, place, row, group, c, d);
    } else {
      finish(task, place, row, group, c, of_rows);
    }
  }

  // From the sums over V, in `d`, to the gradients of the inputs.
  template <class ChannelGradients>
  static __device__ __forceinline__ void finish(const GradientTask& task, const Place& place, int64_t row,
                                                const Group<Operand, kDplr, kWidth>& group,
                                                const Channels<Operand, kDplr>& c, ChannelGradients& d) {
    const Problem& p = task.p;
    const ScratchOf& scratch = group.scratch;
    const bool in_group = thread() < Layout::kGroupThreads;
    const Factored<Operand, kDplr, kWidth> x{c, scratch};
    const ChannelSums of_level{at<float>(Memory::kStage) + 2 * thread(), Memory::kLevelStride};
    if (in_group) {
      Two d_decay{0.0f, 0.0f};
#pragma unroll
      for (int part = 0; part < Memory::kDecayParts; ++part) {
        d_decay = d_decay + *reinterpret_cast<const Two*>(at<float>(Memory::kDecay) + part * kWidth + 2 * thread());
      }
      adjoint_of_rows(x, d_decay, d);
      add_diagonal(x, d);
    }
#pragma unroll
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
  template <class ChannelGradients>
  static __device__ __forceinline__ void add_diagonal(const Factored<Operand, kDplr, kWidth>& x, ChannelGradients& d) {
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

  // The work of a block: its head is blockIdx.x, its chunk slot is counted by y and z. (A division costs 200 cycles.)
  static __device__ __forceinline__ void run(const GradientTask& task) {
    const unsigned slot = blockIdx.z * gridDim.y + blockIdx.y;
    if (slot >= chunk_slots(task.p.sequences, task.window)) return;
    const int64_t sequence = sequence_of(task.p.sequences, task.window, slot);
    const SequenceSpan span = inside(span_of(task.p.sequences, sequence), task.window);
    const int64_t first = (slot - first_chunk_slot(task.p.sequences, task.window, sequence, span.start)) * kChunk;
    if (first >= span.length) return;  // sequences may leave slots unused
    chunk(task, place_of(span, first, static_cast<int>(blockIdx.x)), slot * task.p.HV + blockIdx.x);
  }
};

template <class Operand, bool kDplr, int kWidth>
__global__ void __launch_bounds__(kGradientWarps* kWarp) gradient_kernel(const GradientTask task) {
  Gradient<Operand, kDplr, kWidth>::run(task);
}

template <class Operand>
void launch_gradient(const GradientTask& task, Stream stream) {
  with_shape<StateOrdered<Operand>>(task.p, [&]<class O, bool kDplr, int kWidth>() {
    using G = Gradient<O, kDplr, kWidth>;
    constexpr int64_t kMost = 65535;  // blocks along y
    const int64_t slots = chunk_slots(task.p.sequences, task.window);
    const dim3 grid(static_cast<unsigned>(task.p.HV), static_cast<unsigned>(std::min(slots, kMost)),
                    static_cast<unsigned>((slots + kMost - 1) / kMost));
    launch(gradient_kernel<O, kDplr, kWidth>, grid, G::kThreads, G::Memory::kTotal, stream, task);
  });
}

}  // namespace klab::kernels::cuda
