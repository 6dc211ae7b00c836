// SPDX-License-Identifier: Apache-2.0
// Latent attention on the CPU with one pass over the cache for all heads (online softmax). A task has a group of query
// rows (token and head) and a part of the cache. It processes the part in blocks of tokens, which stay in the L2 cache
// while every head uses them twice: as keys, a few tokens at a time, and as values, a strip of columns at a time. These
// few tokens and the strip stay in the L1 cache for all heads. The parts are combined at the end from their maxima and
// sums.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/cpu/latent_attention.cpp"
#include "kernels/common/cpu/targets.h"

#include <limits>

// Must come before the headers that are compiled once per instruction set:
#include "hwy/foreach_target.h"
#include "kernels/attention/cpu/latent_attention.h"
#include "kernels/common/cpu/simd-inl.h"
#include "kernels/common/cpu/tiles-inl.h"
#include "kernels/common/cpu/workers.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kBlock = 96;             // tokens per block
constexpr int64_t kGroup = 12;             // tokens whose keys stay in the L1 cache: a multiple of all tile heights
constexpr int64_t kMostRows = 64;          // query rows per task: their outputs share the L2 cache with the block
constexpr int64_t kPart = 1920;            // tokens per part
constexpr int64_t kManyTasks = 64;         // with at least this many tasks, the cache is not split into parts
constexpr int64_t kWeights = kBlock + 16;  // row stride of the weights: sums are stored four at a time
// Tiles as large as the registers allow: query rows x tokens for the logits, query rows x vectors for the values.
constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON;
constexpr int kLogitRows = kManyRegisters ? 8 : 4;
constexpr int kLogitTokens = kManyRegisters ? 3 : 2;
constexpr int kValueRows = kManyRegisters ? 4 : 2;
constexpr int kValueVecs = 4;
constexpr int64_t kStrip = kValueVecs * kLanes;

constexpr int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// The division of the work. It depends on the shapes alone, so the number of threads does not change the result.
struct Plan {
  int64_t rows, groups, parts, padded_values;
  explicit Plan(const LatentProblem& p)
      : rows(p.T * p.H),
        groups((rows + kMostRows - 1) / kMostRows),
        parts(p.B * groups >= kManyTasks ? 1 : (p.S + kPart - 1) / kPart),
        padded_values(round_up(p.value_dim, kStrip)) {}
  int64_t part_tokens(const LatentProblem& p) const { return parts == 1 ? p.S : kPart; }
  int64_t partial_floats() const { return kMostRows * (padded_values + 2); }
};

// Partial results of a group of rows for a part of the cache: running maxima and sums, and unnormalised outputs.
struct Partial {
  float *o, *largest, *sum;
  Partial(const Plan& plan, float* at)
      : o(at), largest(at + kMostRows * plan.padded_values), sum(largest + kMostRows) {}
};

struct Space {
  int64_t padded;                      // padded width of q and keys
  float *q, *keys, *values, *weights;  // [kMostRows][padded], [kGroup][padded], [kBlock][kStrip], [kMostRows][kWeights]
  Space(const LatentProblem& p, const Plan& plan) : padded(round_up(HWY_MAX(p.width, plan.padded_values), kLanes)) {
    q = static_cast<float*>(scratch(
        static_cast<size_t>((kMostRows + kGroup) * padded + kBlock * kStrip + kMostRows * kWeights) * sizeof(float)));
    keys = q + kMostRows * padded;
    values = keys + kGroup * padded;
    weights = values + kBlock * kStrip;
  }
};

// Rows of the cache as float32, in place or as a copy.
struct View {
  const float* data;
  int64_t step;
};

// Software prefetch of the next block, a few cache lines per loop step, to overlap memory accesses with the computation
// of this block. (Prefetching many lines at once would fill the load queues and stall the arithmetic.)
struct Ahead {
  const char *at = nullptr, *end = nullptr;
  int64_t lines = 0;  // per step
  HWY_INLINE void step() {
    for (int64_t i = 0; i < lines && at < end; ++i, at += kLine) __builtin_prefetch(at, /*rw=*/0, /*locality=*/2);
  }
  static constexpr int64_t kLine = 64;
};

// weights[r][at + j] = q_r . key_j for kRows rows from `row` and `tokens` keys, a multiple of kTokens.
template <int kRows, int kTokens>
HWY_INLINE void logits_of(const Space& space, const View& view, int64_t row, int64_t at, int64_t tokens, Ahead& ahead) {
  const float* q = space.q + row * space.padded;
  for (int64_t j = 0; j < tokens; j += kTokens) {
    const float* keys = view.data + j * view.step;
    Vec acc[kRows][kTokens];
    clear(acc);
    for (int64_t d = 0; d < space.padded; d += kLanes) {
      ahead.step();
      Vec key[kTokens];
      HWY_UNROLL(4)
      for (int t = 0; t < kTokens; ++t) key[t] = load(keys + t * view.step + d);
      HWY_UNROLL(8)
      for (int r = 0; r < kRows; ++r) {
        const Vec query = load(q + r * space.padded + d);
        HWY_UNROLL(4)
        for (int t = 0; t < kTokens; ++t) acc[r][t] = hn::MulAdd(query, key[t], acc[r][t]);
      }
    }
    // Stores four sums at a time. The elements beyond kTokens are overwritten by the next tile or never read.
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      store_sums(acc[r][0], acc[r][1], kTokens > 2 ? acc[r][kTokens > 2 ? 2 : 0] : zero(), zero(),
                 space.weights + (row + r) * kWeights + at + j);
    }
  }
}

// Online softmax: replaces a row's logits by weights relative to its running maximum. Returns the factor by which the
// previous partial results must be rescaled.
HWY_INLINE float weigh(float* logits, int64_t seen, float scale, float* largest, float* sum_of_weights) {
  for (int64_t j = seen; j < kBlock; ++j) logits[j] = -std::numeric_limits<float>::infinity();
  const Vec factor = broadcast(scale);
  Vec most = broadcast(*largest);
  for (int64_t j = 0; j < kBlock; j += kLanes) {
    const Vec x = hn::Mul(load(logits + j), factor);
    store(x, logits + j);
    most = hn::Max(most, x);
  }
  const float now = hn::GetLane(hn::MaxOfLanes(kFloats, most));
  if (now == -std::numeric_limits<float>::infinity()) {  // all keys so far are masked for this row
    for (int64_t j = 0; j < kBlock; ++j) logits[j] = 0;
    return 1;
  }
  Vec sums = zero();
  for (int64_t j = 0; j < kBlock; j += kLanes) {
    const Vec weight = exp(hn::Sub(load(logits + j), broadcast(now)));
    store(weight, logits + j);
    sums = hn::Add(sums, weight);
  }
  const float before = hn::GetLane(exp(broadcast(*largest - now)));
  *largest = now;
  *sum_of_weights = *sum_of_weights * before + sum(sums);
  return before;
}

// o[r] = before[r] o[r] + weights[r] values, for kRows rows and one strip of columns.
template <int kRows>
HWY_INLINE void add_values(const Space& space, const View& view, const Plan& plan, int64_t row, int64_t tokens,
                           const float* before, float* o, Ahead& ahead) {
  float* out = o + row * plan.padded_values;
  Vec acc[kRows][kValueVecs];
  HWY_UNROLL(4)
  for (int r = 0; r < kRows; ++r) {
    const Vec factor = broadcast(before[row + r]);
    HWY_UNROLL(4)
    for (int c = 0; c < kValueVecs; ++c) acc[r][c] = hn::Mul(factor, load(out + r * plan.padded_values + c * kLanes));
  }
  const float* weights = space.weights + row * kWeights;
  const float* values = view.data;
  for (int64_t j = 0; j < tokens; ++j, values += view.step) {
    ahead.step();
    Vec value[kValueVecs];
    HWY_UNROLL(4)
    for (int c = 0; c < kValueVecs; ++c) value[c] = load(values + c * kLanes);
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      const Vec weight = broadcast(weights[r * kWeights + j]);
      HWY_UNROLL(4)
      for (int c = 0; c < kValueVecs; ++c) acc[r][c] = hn::MulAdd(weight, value[c], acc[r][c]);
    }
  }
  store_tile(acc, out, plan.padded_values);
}

// Covers all rows with tiles of the largest size, then the rest with smaller ones, so that few heads cost less.
template <typename Tile>
HWY_INLINE void by_tiles(int64_t count, int64_t largest, Tile&& tile) {
  int64_t row = 0;
  for (int64_t size = largest; size >= 1; size /= 2) {
    for (; row + size <= count; row += size) tile(row, size);
  }
}

// A block of the cache: tokens [token, token + tokens) of batch row b.
class Block {
 public:
  Block(const LatentProblem& p, const Space& space, int64_t b, int64_t token, int64_t tokens)
      : p_(p), space_(space), b_(b), token_(token), tokens_(tokens) {
    constexpr int64_t kBytes = kLanes * static_cast<int64_t>(sizeof(float));
    ready_ = p.cache.dtype == Dtype::float32 && p.width == space.padded && p.cache.token % kLanes == 0 &&
             reinterpret_cast<uintptr_t>(at(0)) % kBytes == 0;
  }

  // Keys [first, first + count), zero-padded to a whole tile.
  View keys(int64_t first, int64_t count) const {
    if (ready_ && count % kLogitTokens == 0) return {at(first), p_.cache.token};
    for (int64_t j = 0; j < count; ++j) {
      load_row(p_.cache, p_.cache.offset(b_, token_ + first + j, 0), p_.width, space_.padded,
               space_.keys + j * space_.padded);
    }
    const int64_t filled = round_up(count, kLogitTokens);
    std::memset(space_.keys + count * space_.padded, 0,
                static_cast<size_t>((filled - count) * space_.padded) * sizeof(float));
    return {space_.keys, space_.padded};
  }

  // Columns [column, column + kStrip) of all tokens.
  View values(int64_t column) const {
    if (ready_) return {at(0) + column, p_.cache.token};
    const int64_t width = HWY_MIN(kStrip, p_.width - column);
    for (int64_t j = 0; j < tokens_; ++j) {
      load_row(p_.cache, p_.cache.offset(b_, token_ + j, 0) + column, width, kStrip, space_.values + j * kStrip);
    }
    return {space_.values, kStrip};
  }

 private:
  const float* at(int64_t j) const {
    return static_cast<const float*>(p_.cache.data) + p_.cache.offset(b_, token_ + j, 0);
  }

  const LatentProblem& p_;
  const Space& space_;
  int64_t b_, token_, tokens_;
  bool ready_;  // float32 with aligned rows of whole vectors: can be used in place
};

void all_logits(const Space& space, const Block& block, int64_t count, int64_t tokens, Ahead& ahead) {
  for (int64_t first = 0; first < tokens; first += kGroup) {
    const int64_t some = HWY_MIN(kGroup, tokens - first), filled = round_up(some, kLogitTokens);
    const View keys = block.keys(first, some);
    by_tiles(count, kLogitRows, [&](int64_t row, int64_t size) {
      if (size == 8) return logits_of<8, kLogitTokens>(space, keys, row, first, filled, ahead);
      if (size == 4) return logits_of<4, kLogitTokens>(space, keys, row, first, filled, ahead);
      if (size == 2) return logits_of<2, kLogitTokens>(space, keys, row, first, filled, ahead);
      return logits_of<1, kLogitTokens>(space, keys, row, first, filled, ahead);
    });
  }
}

void all_values(const Space& space, const Block& block, const Plan& plan, int64_t count, int64_t tokens,
                const float* before, float* o, Ahead& ahead) {
  for (int64_t column = 0; column < plan.padded_values; column += kStrip) {
    const View values = block.values(column);
    by_tiles(count, kValueRows, [&](int64_t row, int64_t size) {
      if (size == 4) return add_values<4>(space, values, plan, row, tokens, before, o + column, ahead);
      if (size == 2) return add_values<2>(space, values, plan, row, tokens, before, o + column, ahead);
      return add_values<1>(space, values, plan, row, tokens, before, o + column, ahead);
    });
  }
}

// The prefetch of the block from `token` on, spread over the loop steps of the current block.
Ahead next_block(const LatentProblem& p, const Plan& plan, int64_t b, int64_t token, int64_t end, int64_t count) {
  const int64_t bytes = bytes_of(p.cache.dtype);
  if (token >= end || p.cache.token != p.width) return {};
  const char* at = static_cast<const char*>(p.cache.data) + p.cache.offset(b, token, 0) * bytes;
  const int64_t length = HWY_MIN(kBlock, end - token) * p.width * bytes;
  const int64_t logit_tiles = (count + kLogitRows - 1) / kLogitRows * (kBlock / kLogitTokens);
  const int64_t value_tiles = (count + kValueRows - 1) / kValueRows * (plan.padded_values / kStrip);
  const int64_t steps = logit_tiles * (p.width / kLanes) + value_tiles * kBlock;
  return {at, at + length, (length / Ahead::kLine + steps) / HWY_MAX(steps, 1)};
}

void attend(const LatentProblem& p, const Plan& plan, int64_t task, float* workspace) {
  const int64_t part = task % plan.parts, group = task / plan.parts % plan.groups, b = task / plan.parts / plan.groups;
  const int64_t first = group * kMostRows, count = HWY_MIN(kMostRows, plan.rows - first);
  const Space space(p, plan);
  const Partial out(plan, workspace + task * plan.partial_floats());
  for (int64_t r = 0; r < count; ++r) {
    const int64_t t = (first + r) / p.H, h = (first + r) % p.H;
    load_row(p.q, p.q.offset(b, t, h), p.width, space.padded, space.q + r * space.padded);
    out.largest[r] = -std::numeric_limits<float>::infinity();
    out.sum[r] = 0;
  }
  std::memset(out.o, 0, static_cast<size_t>(count * plan.padded_values) * sizeof(float));
  HWY_ALIGN float before[kMostRows];

  const int64_t begin = part * plan.part_tokens(p), end = HWY_MIN(p.S, begin + plan.part_tokens(p));
  const int64_t last_seen = p.S - p.T + (first + count - 1) / p.H;  // last key that any of these rows attends to
  for (int64_t token = begin; token < HWY_MIN(end, last_seen + 1); token += kBlock) {
    const int64_t tokens = HWY_MIN(kBlock, end - token);
    const Block block(p, space, b, token, tokens);
    Ahead ahead = next_block(p, plan, b, token + kBlock, end, count);
    all_logits(space, block, count, tokens, ahead);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t seen = HWY_MAX(0, HWY_MIN(tokens, p.S - p.T + (first + r) / p.H + 1 - token));
      before[r] = weigh(space.weights + r * kWeights, seen, p.scale, out.largest + r, out.sum + r);
    }
    all_values(space, block, plan, count, tokens, before, out.o, ahead);
  }
}

// Combines the parts of one query row and writes its output.
void finish(const LatentProblem& p, const Plan& plan, int64_t b, int64_t row, float* workspace) {
  const int64_t group = row / kMostRows, r = row % kMostRows;
  const auto partial = [&](int64_t part) {
    return Partial(plan, workspace + ((b * plan.groups + group) * plan.parts + part) * plan.partial_floats());
  };
  float largest = -std::numeric_limits<float>::infinity(), total = 0;
  for (int64_t part = 0; part < plan.parts; ++part) largest = HWY_MAX(largest, partial(part).largest[r]);
  // The maximum ignores NaN logits, but the sums propagate them.
  const auto share = [&](int64_t part) { return hn::GetLane(exp(broadcast(partial(part).largest[r] - largest))); };
  for (int64_t part = 0; part < plan.parts; ++part) total += partial(part).sum[r] * share(part);
  float* o = partial(0).o + r * plan.padded_values;
  for (int64_t part = 0; part < plan.parts; ++part) {
    const Vec factor = broadcast(share(part) / total);
    const float* from = partial(part).o + r * plan.padded_values;
    for (int64_t d = 0; d < plan.padded_values; d += kLanes) {
      const Vec x = hn::Mul(factor, load(from + d));
      store(part == 0 ? x : hn::Add(load(o + d), x), o + d);
    }
  }
  store_row(o, p.value_dim, p.o, p.o.offset(b, row / p.H, row % p.H));
}

void latent_attention(const LatentProblem& p, float* workspace) {
  const Plan plan(p);
  run_tasks(p.B * plan.groups * plan.parts, [&](int64_t task) { attend(p, plan, task, workspace); });
  run_tasks(p.B * plan.groups, [&](int64_t task) {
    const int64_t b = task / plan.groups, first = task % plan.groups * kMostRows;
    for (int64_t row = first; row < HWY_MIN(first + kMostRows, plan.rows); ++row) finish(p, plan, b, row, workspace);
  });
}

int64_t latent_workspace(const LatentProblem& p) {
  const Plan plan(p);
  return p.B * plan.groups * plan.parts * plan.partial_floats();
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace klab::kernels::cpu {

HWY_EXPORT(latent_attention);
HWY_EXPORT(latent_workspace);

void latent_attention(const LatentProblem& problem, float* workspace) {
  HWY_DYNAMIC_DISPATCH(latent_attention)(problem, workspace);
}

int64_t latent_workspace(const LatentProblem& problem) { return HWY_DYNAMIC_DISPATCH(latent_workspace)(problem); }

}  // namespace klab::kernels::cpu
#endif
