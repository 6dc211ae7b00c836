// One pass over the cache for all heads. A task takes some query rows and a part of the cache, and walks through it in
// blocks of tokens which stay in the second-level cache while every head uses them: logits, running softmax, sum of
// values. Parts are joined at the end by their maxima and sums.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/latent_attention.cpp"
#include "kernels/cpu/targets.h"

#include <limits>

// Before all that is compiled once per instruction set:
#include "hwy/foreach_target.h"
#include "kernels/cpu/latent_attention.h"
#include "kernels/cpu/simd-inl.h"
#include "kernels/cpu/tiles-inl.h"
#include "kernels/cpu/workers.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kBlock = 64;      // tokens
constexpr int64_t kMostRows = 64;   // query rows of a task: their outputs share the cache with the block
constexpr int64_t kPart = 1024;     // tokens of a part
constexpr int64_t kManyTasks = 64;  // from here on the cache is not split: other tasks keep the threads busy
constexpr int kTileQueries = HWY_TARGET == HWY_AVX2 ? 2 : 4;

constexpr int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// How the work is cut; a function of the shapes alone, so that threads change no bit.
struct Plan {
  int64_t rows, groups, parts, padded_values;
  explicit Plan(const LatentProblem& p)
      : rows(p.T * p.H),
        groups((rows + kMostRows - 1) / kMostRows),
        parts(p.B * groups >= kManyTasks ? 1 : (p.S + kPart - 1) / kPart),
        padded_values(round_up(p.value_dim, 2 * kLanes)) {}
  int64_t part_tokens(const LatentProblem& p) const { return parts == 1 ? p.S : kPart; }
  int64_t partial_floats() const { return kMostRows * (padded_values + 2); }
};

// What a part of the cache has given to a group of rows: running maxima and sums, and outputs not yet divided.
struct Partial {
  float *o, *largest, *sum;
  Partial(const Plan& plan, float* at)
      : o(at), largest(at + kMostRows * plan.padded_values), sum(largest + kMostRows) {}
};

struct Space {
  int64_t padded;
  float *q, *block, *weights;
  explicit Space(const LatentProblem& p) : padded(round_up(HWY_MAX(p.width, round_up(p.value_dim, 2 * kLanes)), kLanes)) {
    q = static_cast<float*>(
        scratch(static_cast<size_t>((kMostRows + kBlock) * padded + kMostRows * kBlock) * sizeof(float)));
    block = q + kMostRows * padded;
    weights = block + kBlock * padded;
  }
};

// weights[r][j] = q_r . block_j for kQueries rows from `row` and all tokens of the block.
template <int kQueries>
HWY_INLINE void logits_of(const Space& space, int64_t row, int64_t tokens) {
  const float* q = space.q + row * space.padded;
  for (int64_t j = 0; j < tokens; j += 4) {
    const float* keys = space.block + j * space.padded;
    Vec acc[kQueries][4];
    clear(acc);
    for (int64_t d = 0; d < space.padded; d += kLanes) {
      Vec key[4];
      HWY_UNROLL(4)
      for (int t = 0; t < 4; ++t) key[t] = load(keys + t * space.padded + d);
      HWY_UNROLL(4)
      for (int r = 0; r < kQueries; ++r) {
        const Vec query = load(q + r * space.padded + d);
        HWY_UNROLL(4)
        for (int t = 0; t < 4; ++t) acc[r][t] = hn::MulAdd(query, key[t], acc[r][t]);
      }
    }
    HWY_UNROLL(4)
    for (int r = 0; r < kQueries; ++r) {
      store_sums(acc[r][0], acc[r][1], acc[r][2], acc[r][3], space.weights + (row + r) * kBlock + j);
    }
  }
}

// Turns a row's logits into weights relative to its running maximum; returns the factor that what came before needs.
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
  if (now == -std::numeric_limits<float>::infinity()) {  // nothing that this row may see, so far
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

// o[r] = before[r] o[r] + weights[r] block, for kRows rows.
template <int kRows>
HWY_INLINE void add_values(const Space& space, const Plan& plan, int64_t row, int64_t tokens, const float* before,
                           float* o) {
  for (int64_t d = 0; d < plan.padded_values; d += 2 * kLanes) {
    float* out = o + row * plan.padded_values + d;
    Vec acc[kRows][2];
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const Vec factor = broadcast(before[row + r]);
      acc[r][0] = hn::Mul(factor, load(out + r * plan.padded_values));
      acc[r][1] = hn::Mul(factor, load(out + r * plan.padded_values + kLanes));
    }
    multiply_add<kBlock, 1>(space.weights + row * kBlock, space.block + d, space.padded, tokens, acc);
    store_tile(acc, out, plan.padded_values);
  }
}

void attend(const LatentProblem& p, const Plan& plan, int64_t task, float* workspace) {
  const int64_t part = task % plan.parts, group = task / plan.parts % plan.groups, b = task / plan.parts / plan.groups;
  const int64_t first = group * kMostRows, count = HWY_MIN(kMostRows, plan.rows - first);
  const Space space(p);
  const Partial out(plan, workspace + task * plan.partial_floats());
  for (int64_t r = 0; r < count; ++r) {
    const int64_t t = (first + r) / p.H, h = (first + r) % p.H;
    load_row(p.q, p.q.offset(b, t, h), p.width, space.padded, space.q + r * space.padded);
    out.largest[r] = -std::numeric_limits<float>::infinity();
    out.sum[r] = 0;
  }
  // Rows beyond the last fill the tiles.
  std::memset(space.q + count * space.padded, 0, static_cast<size_t>((kMostRows - count) * space.padded) * sizeof(float));
  std::memset(space.weights, 0, static_cast<size_t>(kMostRows * kBlock) * sizeof(float));
  std::memset(out.o, 0, static_cast<size_t>(kMostRows * plan.padded_values) * sizeof(float));
  HWY_ALIGN float before[kMostRows] = {};

  const int64_t begin = part * plan.part_tokens(p), end = HWY_MIN(p.S, begin + plan.part_tokens(p));
  const int64_t last_seen = p.S - p.T + (first + count - 1) / p.H;  // by the last of these rows
  for (int64_t token = begin; token < HWY_MIN(end, last_seen + 1); token += kBlock) {
    const int64_t tokens = HWY_MIN(kBlock, end - token);
    for (int64_t j = 0; j < tokens; ++j) {
      load_row(p.cache, p.cache.offset(b, token + j, 0), p.width, space.padded, space.block + j * space.padded);
    }
    const int64_t filled = round_up(tokens, 4);
    std::memset(space.block + tokens * space.padded, 0,
                static_cast<size_t>((filled - tokens) * space.padded) * sizeof(float));
    for (int64_t row = 0; row < count; row += kTileQueries) logits_of<kTileQueries>(space, row, filled);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t seen = HWY_MAX(0, HWY_MIN(tokens, p.S - p.T + (first + r) / p.H + 1 - token));
      before[r] = weigh(space.weights + r * kBlock, seen, p.scale, out.largest + r, out.sum + r);
    }
    for (int64_t row = 0; row < count; row += kTileRows) {
      add_values<kTileRows>(space, plan, row, tokens, before, out.o);
    }
  }
}

// Joins the parts of one query row and writes it.
void finish(const LatentProblem& p, const Plan& plan, int64_t b, int64_t row, float* workspace) {
  const int64_t group = row / kMostRows, r = row % kMostRows;
  const auto partial = [&](int64_t part) {
    return Partial(plan, workspace + ((b * plan.groups + group) * plan.parts + part) * plan.partial_floats());
  };
  float largest = -std::numeric_limits<float>::infinity(), total = 0;
  for (int64_t part = 0; part < plan.parts; ++part) largest = HWY_MAX(largest, partial(part).largest[r]);
  // A NaN among the logits is no maximum, but reaches the sums.
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
