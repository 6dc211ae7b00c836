// SPDX-License-Identifier: Apache-2.0
// Split-K flash decoding. Every block handles 16 of a batch row's queries (pairs of token and head: all read the same
// cache) and one split of its keys, in double-buffered stages; a second kernel combines the splits.
//
// For the logits, each warp of a block computes the partial products over its share of the width, with its queries in
// registers; after an exchange through shared memory every warp has all logits. Each warp then accumulates its share of
// the values' columns. The logits stay in registers: their accumulator layout is that of the next left operand.
#include "kernels/attention/cuda/latent_attention.h"

#include "kernels/common/cuda/operand.cuh"

namespace klab::kernels::cuda {
namespace {

constexpr int kQueries = 16, kSide = 16;  // queries per block; side of an operand tile
constexpr int kStages = 2, kBlocksPerMultiprocessor = 2;
constexpr float kLog2E = 1.44269504f;

// The split of the keys.
struct Splits {
  int64_t count, keys;  // splits per batch row; keys per split, a multiple of the keys per stage
};

struct LatentTask {
  LatentProblem p;
  Splits splits;
  bool whole;    // rows can be copied 16 bytes at a time
  float* sums;   // [B, splits, T H, padded R]: values weighted by 2^(logit - largest), unnormalised
  float* peaks;  // [B, splits, T H, 2]: the largest logit, in powers of two, and the sum of the weights

  __host__ __device__ int64_t queries() const { return p.T * p.H; }
  __host__ __device__ int64_t tiles() const { return (queries() + kQueries - 1) / kQueries; }
  __host__ __device__ int64_t padded_values() const { return (p.value_dim + kSide - 1) / kSide * kSide; }
  // Index of a query in a split's partial results.
  __host__ __device__ int64_t place(int64_t row, int64_t split, int64_t query) const {
    return (row * splits.count + split) * queries() + query;
  }
};

// Maximum and sum over the four lanes that hold a row of an accumulator tile.
__device__ float largest_in_row(float x) {
  x = fmaxf(x, shuffle_xor(x, 1));
  return fmaxf(x, shuffle_xor(x, 2));
}
__device__ float sum_of_row(float x) {
  x += shuffle_xor(x, 1);
  return x + shuffle_xor(x, 2);
}

// The reference that is subtracted from logits: the peak, or 0 while all keys are masked.
__device__ float reference_of(float peak) { return peak == -INFINITY ? 0.0f : peak; }

template <class Operand>
struct Latent {
  using Element = typename Operand::Element;
  using Left = typename Operand::Left;
  using Right = typename Operand::Right;
  static constexpr bool kHalf = sizeof(Element) == 2;
  static constexpr int kWarps = kHalf ? 4 : 8, kThreads = kWarps * kWarp;  // float32 needs twice the registers
  static constexpr int kSteps = kWidestLatentRow / kSide / kWarps;         // steps of a warp along the width
  static constexpr int kColumns = kWidestLatent / kSide / kWarps;          // 16-column groups of values per warp
  static constexpr int kPairs = kHalf ? 2 : 1;                             // pairs of 8-key tiles per stage
  static constexpr int kKeys = kPairs * 16, kChunk = 16 / static_cast<int>(sizeof(Element));
  static constexpr int kShares = kWarps * 2 * kPairs * kWarp;  // Tile structs for the exchange of a stage's logits

  const LatentTask& task;
  const LatentProblem& p = task.p;
  int warp = static_cast<int>(threadIdx.x) / kWarp;
  int steps = static_cast<int>((task.p.width + kSide - 1) / kSide), stride = steps * kSide + kRowPadding;
  int64_t row, split, first_query;  // batch row; split of its keys; first of its T H queries

  __device__ explicit Latent(const LatentTask& task_) : task(task_) {
    // Blocks of the same keys have adjacent indices, so that they share the keys in the L2 cache.
    const int64_t block = blockIdx.x, tiles = task.tiles();
    first_query = block % tiles * kQueries;
    split = block / tiles % task.splits.count;
    row = block / tiles / task.splits.count;
  }

  static int64_t stage_elements(const LatentProblem& p) {
    return kKeys * ((p.width + kSide - 1) / kSide * kSide + kRowPadding);
  }
  static size_t shared_bytes(const LatentProblem& p) {
    return static_cast<size_t>(kStages * stage_elements(p)) * sizeof(Element) + kShares * sizeof(Tile);
  }

  __device__ Element* stage(int number) const {
    return reinterpret_cast<Element*>(shared_memory()) + number * kKeys * stride;
  }
  __device__ Tile* shares() const { return reinterpret_cast<Tile*>(stage(kStages)); }

  __device__ int64_t first_key() const { return split * task.splits.keys; }
  __device__ int64_t end_key() const {
    const int64_t end = first_key() + task.splits.keys;
    return end < p.S ? end : p.S;
  }
  __device__ int stages() const { return static_cast<int>((end_key() - first_key() + kKeys - 1) / kKeys); }

  // Copies `count` rows of `width`, one row per warp at a time. from(i) is the offset of row i, or -1 for zeros.
  template <class From>
  __device__ void copy_rows(const Rows& rows, int count, const From& from, Element* to) const {
    const int width = static_cast<int>(p.width);
    for (int i = warp; i < count; i += kWarps) {
      const int64_t at = from(i);
      const auto* const data = static_cast<const Element*>(rows.data) + (at < 0 ? 0 : at);
      if (task.whole) {
        for (int n = lane() * kChunk; n < width; n += kWarp * kChunk)
          copy_async(to + i * stride + n, data + n, at >= 0);
      } else {
        for (int n = lane(); n < width; n += kWarp) to[i * stride + n] = at < 0 ? Element{} : data[n];
      }
    }
  }

  __device__ void fetch_keys(int number) const {
    const int64_t first = first_key() + static_cast<int64_t>(number) * kKeys, end = end_key();
    const auto from = [&](int key) { return first + key < end ? p.cache.offset(row, first + key, 0) : -1; };
    if (number < stages()) copy_rows(p.cache, kKeys, from, stage(number % kStages));
    copies_commit();
  }

  // Loads this warp's share of the queries' width, through the memory of stage 0, which has no keys yet.
  __device__ void load_queries(Left (&q)[kSteps]) const {
    const auto from = [&](int query) {
      const int64_t at = first_query + query;
      return at < task.queries() ? p.q.offset(row, at / p.H, at % p.H) : -1;
    };
    copy_rows(p.q, kQueries, from, stage(0));
    copies_commit();
    copies_wait<0>();
    block_barrier();
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      if (step(i) < steps) q[i] = Operand::load_left(stage(0) + step(i) * kSide, stride);
    }
    block_barrier();
  }

  // Zeros the columns beyond the width, which no copy writes.
  __device__ void clear_padding() const {
    const int width = static_cast<int>(p.width), padding = steps * kSide - width;
    for (int i = static_cast<int>(threadIdx.x); i < kStages * kKeys * padding; i += kThreads) {
      stage(0)[i / padding * stride + width + i % padding] = Element{};
    }
  }

  // This warp's i-th step along the width, and its i-th group of value columns.
  __device__ int step(int i) const { return warp + i * kWarps; }
  __device__ int column(int i) const { return (warp + i * kWarps) * kSide; }

  // Computes the logits: products over this warp's share of the width, then the sum over all warps.
  __device__ void multiply_keys(const Left (&q)[kSteps], const Element* keys, Tile (&logits)[2 * kPairs]) const {
    Tile part[2 * kPairs] = {};
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      if (step(i) >= steps) break;
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        Right b[2];
        Operand::load_right(b, keys + pair * 16 * stride + step(i) * kSide, stride);
        Operand::multiply(part[2 * pair], q[i], b[0]);
        Operand::multiply(part[2 * pair + 1], q[i], b[1]);
      }
    }
#pragma unroll
    for (int n = 0; n < 2 * kPairs; ++n) shares()[(warp * 2 * kPairs + n) * kWarp + lane()] = part[n];
    block_barrier();
#pragma unroll
    for (int n = 0; n < 2 * kPairs; ++n) {
      Tile sum{};
#pragma unroll 2
      for (int other = 0; other < kWarps; ++other) {
        const Tile share = shares()[(other * 2 * kPairs + n) * kWarp + lane()];
#pragma unroll
        for (int c = 0; c < 4; ++c) sum.c[c] += share.c[c];
      }
      logits[n] = sum;
    }
  }

  // Causal mask: the number of the split's keys that each of the lane's two queries attends to.
  struct Visible {
    int keys[2];
  };
  __device__ Visible visible() const {
    Visible v;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t after = p.S - p.T + (first_query + lane() / 4 + 8 * h) / p.H + 1;
      v.keys[h] = static_cast<int>((after < end_key() ? after : end_key()) - first_key());
    }
    return v;
  }

  // Scales the logits for exp2 and masks keys that are not visible.
  __device__ void mask(int number, const Visible& visible, Tile (&logits)[2 * kPairs]) const {
#pragma unroll
    for (int n = 0; n < 2 * kPairs; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int key = number * kKeys + n * 8 + lane() % 4 * 2 + c % 2;
        logits[n].c[c] = key < visible.keys[c / 2] ? logits[n].c[c] * (p.scale * kLog2E) : -INFINITY;
      }
    }
  }
};

template <class Operand>
struct Reader : Latent<Operand> {
  using Base = Latent<Operand>;
  using Base::Base;
  using Base::kColumns;
  using Base::kPairs;
  using Base::kSteps;
  using typename Base::Element;
  using typename Base::Left;
  using typename Base::Right;

  // A warp's running results: weighted sums of its columns of values, and for each lane's two queries the largest logit
  // and the sum of the weights.
  struct Found {
    Tile sums[kColumns][2];
    float peak[2], total[2];
  };

  // Online softmax: replaces logits by weights and rescales the running results when a larger logit appears.
  static __device__ void weigh(Tile (&logits)[2 * kPairs], Found& found) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float peak = found.peak[h];
#pragma unroll
      for (int n = 0; n < 2 * kPairs; ++n) peak = fmaxf(peak, fmaxf(logits[n].c[2 * h], logits[n].c[2 * h + 1]));
      peak = largest_in_row(peak);
      const float reference = reference_of(peak), shrink = exp2f(found.peak[h] - reference);
      float total = 0.0f;
#pragma unroll
      for (int n = 0; n < 2 * kPairs; ++n) {
#pragma unroll
        for (int c = 2 * h; c < 2 * h + 2; ++c) {
          logits[n].c[c] = exp2f(logits[n].c[c] - reference);
          total += logits[n].c[c];
        }
      }
      found.peak[h] = peak;
      found.total[h] = found.total[h] * shrink + sum_of_row(total);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          found.sums[i][n].c[2 * h] *= shrink;
          found.sums[i][n].c[2 * h + 1] *= shrink;
        }
      }
    }
  }

  __device__ void multiply_values(const Tile (&weights)[2 * kPairs], const Element* keys, Found& found) const {
    Left a[kPairs];
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) a[pair] = Operand::left(weights[2 * pair], weights[2 * pair + 1]);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      if (this->column(i) >= this->p.value_dim) break;
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        Right b[2];
        Operand::load_right_across(b, keys + pair * 16 * this->stride + this->column(i), this->stride);
        Operand::multiply(found.sums[i][0], a[pair], b[0]);
        Operand::multiply(found.sums[i][1], a[pair], b[1]);
      }
    }
  }

  __device__ void read(Found& found) const {
    Left q[kSteps] = {};
    const auto visible = this->visible();
    this->clear_padding();
    this->load_queries(q);
    this->fetch_keys(0);
    for (int number = 0; number < this->stages(); ++number) {
      copies_wait<0>();
      block_barrier();  // this stage is complete, and all warps are done with the previous stage and its logits
      this->fetch_keys(number + 1);
      const Element* const keys = this->stage(number % kStages);
      Tile logits[2 * kPairs];
      this->multiply_keys(q, keys, logits);
      this->mask(number, visible, logits);
      weigh(logits, found);
      multiply_values(logits, keys, found);
    }
  }

  __device__ void write(const Found& found) const {
    const LatentTask& all = this->task;
    const int64_t padded = all.padded_values();
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int64_t query = this->first_query + lane() / 4 + 8 * h;
      if (query >= all.queries()) continue;
      const int64_t place = all.place(this->row, this->split, query);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const int64_t column = this->column(i) + n * 8 + lane() % 4 * 2;
          if (column >= padded) continue;
          const Tile& sums = found.sums[i][n];
          *reinterpret_cast<Two*>(all.sums + place * padded + column) = {sums.c[2 * h], sums.c[2 * h + 1]};
        }
      }
      if (this->warp == 0 && lane() % 4 == 0) {
        *reinterpret_cast<Two*>(all.peaks + 2 * place) = {found.peak[h], found.total[h]};
      }
    }
  }
};

template <class Operand>
__global__ void __launch_bounds__(Reader<Operand>::kThreads, Reader<Operand>::kHalf ? 2 : 1)
    read_kernel(const LatentTask task) {
  const Reader<Operand> reader(task);
  typename Reader<Operand>::Found found{{}, {-INFINITY, -INFINITY}, {}};
  reader.read(found);
  reader.write(found);
}

// --- Combining splits -----------------------------------------------------------------------------------------------

constexpr int kJoinColumns = 64, kJoinWarps = 8, kJoinThreads = kJoinWarps * kWarp;

// A block combines one query's splits for 64 columns: each warp handles every eighth split, each lane two columns.
__global__ void __launch_bounds__(kJoinThreads) join_kernel(const LatentTask task) {
  const LatentProblem& p = task.p;
  Two* const shares = reinterpret_cast<Two*>(shared_memory());  // [kJoinWarps, kWarp]
  const int64_t padded = task.padded_values(), blocks = (padded + kJoinColumns - 1) / kJoinColumns;
  const int64_t query = blockIdx.x / blocks % task.queries(), row = blockIdx.x / blocks / task.queries();
  const int64_t column = blockIdx.x % blocks * kJoinColumns + 2 * lane();
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const auto found = [&](int64_t split) {
    return *reinterpret_cast<const Two*>(task.peaks + 2 * task.place(row, split, query));
  };

  float peak = -INFINITY, total = 0.0f;
  for (int64_t split = lane(); split < task.splits.count; split += kWarp) peak = fmaxf(peak, found(split).x);
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) peak = fmaxf(peak, shuffle_xor(peak, step));
  for (int64_t split = lane(); split < task.splits.count; split += kWarp) {
    total += found(split).y * exp2f(found(split).x - peak);
  }
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) total += shuffle_xor(total, step);

  Two sum{};
  if (column < padded) {
#pragma unroll 4
    for (int64_t split = warp; split < task.splits.count; split += kJoinWarps) {
      const float weight = exp2f(found(split).x - peak);
      const Two part = *reinterpret_cast<const Two*>(task.sums + task.place(row, split, query) * padded + column);
      sum = {sum.x + weight * part.x, sum.y + weight * part.y};
    }
  }
  shares[threadIdx.x] = sum;
  block_barrier();
  if (warp > 0) return;
  for (int other = 1; other < kJoinWarps; ++other) {
    const Two share = shares[other * kWarp + lane()];
    sum = {sum.x + share.x, sum.y + share.y};
  }
  const int64_t to = p.o.offset(row, query / p.H, query % p.H) + column;
  if (column < p.value_dim) store_number(p.o.data, p.o.dtype, to, sum.x / total);
  if (column + 1 < p.value_dim) store_number(p.o.data, p.o.dtype, to + 1, sum.y / total);
}

// --- Launches -------------------------------------------------------------------------------------------------------

// Chooses as many splits as needed to fill the device.
template <class Operand>
LatentTask task_of(const LatentProblem& p, void* workspace) {
  constexpr int64_t kKeys = Latent<Operand>::kKeys;
  LatentTask task{p, {}, false, nullptr, nullptr};
  const int64_t blocks = p.B * task.tiles(), wanted = multiprocessors() * kBlocksPerMultiprocessor;
  const int64_t stages = (p.S + kKeys - 1) / kKeys, splits = wanted / blocks;
  const int64_t per_split = splits < 1 ? stages : (stages + splits - 1) / splits;
  task.splits = {(stages + per_split - 1) / per_split, per_split * kKeys};
  const auto whole = [&](const Rows& rows) {
    constexpr int64_t kChunk = Latent<Operand>::kChunk;
    return reinterpret_cast<uintptr_t>(rows.data) % 16 == 0 && rows.batch % kChunk == 0 && rows.token % kChunk == 0 &&
           rows.head % kChunk == 0 && p.width % kChunk == 0;
  };
  task.whole = whole(p.q) && whole(p.cache);
  task.sums = static_cast<float*>(workspace);
  task.peaks = task.sums + task.place(p.B, 0, 0) * task.padded_values();
  return task;
}

template <class Operand>
void run(const LatentProblem& p, void* workspace, Stream stream) {
  const LatentTask task = task_of<Operand>(p, workspace);
  const auto blocks = static_cast<unsigned>(p.B * task.splits.count * task.tiles());
  launch(read_kernel<Operand>, dim3(blocks), Latent<Operand>::kThreads, Latent<Operand>::shared_bytes(p), stream, task);
  const int64_t across = (task.padded_values() + kJoinColumns - 1) / kJoinColumns;
  launch(join_kernel, dim3(static_cast<unsigned>(p.B * task.queries() * across)), kJoinThreads,
         kJoinThreads * sizeof(Two), stream, task);
}

template <class Operand>
size_t workspace_of(const LatentProblem& p) {
  const LatentTask task = task_of<Operand>(p, nullptr);
  return static_cast<size_t>(task.place(p.B, 0, 0) * (task.padded_values() + 2)) * sizeof(float);
}

using InBfloat16 = HalfOperand<Bfloat16>;
using InFloat16 = HalfOperand<Float16>;

}  // namespace

void latent_attention(const LatentProblem& p, void* workspace, void* stream) {
  switch (p.q.dtype) {
    case Dtype::float32: return run<SplitFloat32>(p, workspace, static_cast<Stream>(stream));
    case Dtype::bfloat16: return run<InBfloat16>(p, workspace, static_cast<Stream>(stream));
    default: return run<InFloat16>(p, workspace, static_cast<Stream>(stream));
  }
}

size_t latent_attention_workspace(const LatentProblem& p) {
  switch (p.q.dtype) {
    case Dtype::float32: return workspace_of<SplitFloat32>(p);
    case Dtype::bfloat16: return workspace_of<InBfloat16>(p);
    default: return workspace_of<InFloat16>(p);
  }
}

}  // namespace klab::kernels::cuda
