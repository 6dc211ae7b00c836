// SPDX-License-Identifier: Apache-2.0
// All three products use one register tile: a few rows (of x, d_y or d_y^T) times a panel of two vectors of columns.
// The second factor is copied into panels first, [columns / kPanel][depth][kPanel]: so it is read contiguously, and
// its rows, a power of two apart in a matrix, do not map to a few cache sets.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/cpu/shared_input.cpp"
#include "kernels/common/cpu/targets.h"
// Must come before the headers that are compiled once per instruction set:
#include "hwy/foreach_target.h"
#include "kernels/common/cpu/tiles-inl.h"
#include "kernels/common/cpu/workers.h"
#include "kernels/linear/cpu/shared_input.h"

#ifndef KLAB_KERNELS_LINEAR_CPU_SHARED_INPUT_ONCE
#define KLAB_KERNELS_LINEAR_CPU_SHARED_INPUT_ONCE
#include <type_traits>

namespace klab::kernels::cpu {
constexpr int64_t kWidestPanel = 32;       // kPanel of every instruction set divides it
constexpr int64_t kBlockRows = 128;        // rows per task, and per pass over a panel: they stay in the L2 cache
constexpr int64_t kGroupColumns = 384;     // columns of d_y per task of the weights' gradients
constexpr int64_t kSmallWeight = 1 << 15;  // elements
constexpr int64_t kWeightRows = 64;        // rows of a weight per task of the final sum

inline int64_t padded_to_panels(int64_t n) { return (n + kWidestPanel - 1) / kWidestPanel * kWidestPanel; }

inline int64_t all_columns(const SharedInputProblem& p) {
  int64_t sum = 0;
  for (const auto& projection : p.projections) sum += projection.N;
  return sum;
}

// Rows whose share of the weights' gradients is summed separately. Small weights are summed often, so that there is
// work for all threads; for large ones that would cost too much memory traffic.
inline int64_t chunk_rows(const SharedInputProblem& p) { return all_columns(p) * p.K < kSmallWeight ? 1024 : 4096; }
inline int64_t chunks_of(const SharedInputProblem& p) { return (p.rows + chunk_rows(p) - 1) / chunk_rows(p); }
}  // namespace klab::kernels::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

template <int n>
using Count = std::integral_constant<int, n>;

// Calls tile(first, Count) for tiles that cover [first, last).
template <typename Tile>
HWY_INLINE void for_tiles(int64_t first, int64_t last, const Tile& tile) {
  for (; first + kTileRows <= last; first += kTileRows) tile(first, Count<kTileRows>());
  if (kTileRows > 4 && first + 4 <= last) {
    tile(first, Count<4>());
    first += 4;
  }
  if (first + 2 <= last) {
    tile(first, Count<2>());
    first += 2;
  }
  if (first < last) tile(first, Count<1>());
}

// Calls work(column, width, Count<vectors>) for the panels of `columns` columns.
template <typename Work>
HWY_INLINE void for_panels(int64_t columns, const Work& work) {
  for (int64_t column = 0; column < columns; column += kPanel) {
    const int64_t width = HWY_MIN(kPanel, columns - column);
    width > kLanes ? work(column, width, Count<2>()) : work(column, width, Count<1>());
  }
}

// acc[r][c] += sum over i < depth of a[r a_row + i a_depth] b[i kPanel + c kLanes ..].
template <int kRows, int kVecs>
HWY_INLINE void accumulate(const float* HWY_RESTRICT a, int64_t a_row, int64_t a_depth, const float* HWY_RESTRICT b,
                           int64_t depth, Vec (&acc)[kRows][kVecs]) {
  for (int64_t i = 0; i < depth; ++i) {
    Vec row[kVecs];
    HWY_UNROLL(2)
    for (int c = 0; c < kVecs; ++c) row[c] = load(b + c * kLanes);
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const Vec x = broadcast(a[r * a_row]);
      HWY_UNROLL(2)
      for (int c = 0; c < kVecs; ++c) acc[r][c] = hn::MulAdd(x, row[c], acc[r][c]);
    }
    a += a_depth;
    b += kPanel;
  }
}

template <int kRows, int kVecs>
HWY_INLINE void load_tile(const float* from, Vec (&acc)[kRows][kVecs]) {
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(2)
    for (int c = 0; c < kVecs; ++c) acc[r][c] = load(from + r * kPanel + c * kLanes);
  }
}

// Stores the first `width` columns of a tile.
template <int kRows, int kVecs>
HWY_INLINE void store_columns(const Vec (&acc)[kRows][kVecs], int64_t width, float* to, int64_t step) {
  if (width == kVecs * kLanes) {
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(2)
      for (int c = 0; c < kVecs; ++c) hn::StoreU(acc[r][c], kFloats, to + r * step + c * kLanes);
    }
    return;
  }
  HWY_ALIGN_MAX float tile[kRows * kPanel];
  store_tile(acc, tile, kPanel);
  for (int r = 0; r < kRows; ++r) {
    std::memcpy(to + r * step, tile + r * kPanel, static_cast<size_t>(width) * sizeof(float));
  }
}

// Columns [column, column + width) of `rows` rows with stride `step` as a panel, zero-padded.
HWY_INLINE void pack_columns(const float* from, int64_t step, int64_t rows, int64_t column, int64_t width,
                             float* HWY_RESTRICT panel) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* row = from + i * step + column;
    if (width == kPanel) {
      store(hn::LoadU(kFloats, row), panel + i * kPanel);
      store(hn::LoadU(kFloats, row + kLanes), panel + i * kPanel + kLanes);
    } else {
      std::memset(panel + i * kPanel, 0, static_cast<size_t>(kPanel) * sizeof(float));
      std::memcpy(panel + i * kPanel, row, static_cast<size_t>(width) * sizeof(float));
    }
  }
}

// Columns [first, last) of `rows` rows with stride `step`, as tiles of kTileRows columns: [tiles][rows][kTileRows].
// Returns the end of the tiles.
HWY_INLINE float* pack_tiles(const float* from, int64_t step, int64_t rows, int64_t first, int64_t last, float* tiles) {
  for_tiles(first, last, [&](int64_t column, auto count) {
    for (int64_t i = 0; i < rows; ++i) {
      std::memcpy(tiles + i * kTileRows, from + i * step + column, count() * sizeof(float));
    }
    tiles += rows * kTileRows;
  });
  return tiles;
}

// --- Prefetching: the loads of a tile are too far apart for the hardware to do it in time -------------------------

HWY_INLINE void prefetch(const float* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) hwy::Prefetch(from + i);
}

// The lines of a tile of the result.
template <int kRows, int kVecs>
HWY_INLINE void prefetch_result(float* to, int64_t step) {
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kVecs; ++c) __builtin_prefetch(to + r * step + c * kLanes, /*for writing=*/1);
  }
}

// --- Packing ------------------------------------------------------------------------------------------------------

// Rows [row, row + width) of a weight [.., K] as a panel, transposed and zero-padded.
HWY_INLINE void pack_transposed(const float* weight, int64_t K, int64_t row, int64_t width, float* HWY_RESTRICT panel) {
  const int64_t whole_K = K / 4 * 4, whole_width = width / 4 * 4;
  if (width < kPanel) std::memset(panel, 0, static_cast<size_t>(K * kPanel) * sizeof(float));
  transpose(weight + row * K, K, whole_width, whole_K, panel, kPanel);
  for (int64_t n = 0; n < width; ++n) {
    for (int64_t k = n < whole_width ? whole_K : 0; k < K; ++k) panel[k * kPanel + n] = weight[(row + n) * K + k];
  }
}

// Calls work(first, last) for blocks of rows.
template <typename Work>
void for_blocks(int64_t rows, const Work& work) {
  run_tasks((rows + kBlockRows - 1) / kBlockRows,
            [&](int64_t i) { work(i * kBlockRows, HWY_MIN((i + 1) * kBlockRows, rows)); });
}

void forward_block(const SharedInputProblem& p, int64_t first, int64_t last, const float* x,
                   const std::vector<float*>& y, const float* panels) {
  for (size_t j = 0; j < p.projections.size(); ++j) {
    const int64_t N = p.projections[j].N;
    for_panels(N, [&](int64_t column, int64_t width, auto vectors) {
      for_tiles(first, last, [&](int64_t row, auto count) {
        Vec acc[count()][vectors()];
        clear(acc);
        float* to = y[j] + row * N + column;
        prefetch_result<count(), vectors()>(to, N);
        if (j == 0 && column == 0) prefetch(x + (row + count()) * p.K, count() * p.K);  // the next rows
        accumulate(x + row * p.K, p.K, 1, panels + column * p.K, p.K, acc);
        store_columns(acc, width, to, N);
      });
    });
    panels += padded_to_panels(N) * p.K;
  }
}

void gradient_block(const SharedInputProblem& p, int64_t first, int64_t last, const std::vector<const float*>& d_y,
                    float* d_x, const float* panels) {
  const int64_t all = all_columns(p);
  for_panels(p.K, [&](int64_t column, int64_t width, auto vectors) {
    for_tiles(first, last, [&](int64_t row, auto count) {
      Vec acc[count()][vectors()];
      clear(acc);
      float* to = d_x + row * p.K + column;
      prefetch_result<count(), vectors()>(to, p.K);
      const float* panel = panels + column * all;
      for (size_t j = 0; j < p.projections.size(); ++j) {
        const int64_t N = p.projections[j].N;
        if (column == 0) prefetch(d_y[j] + (row + count()) * N, count() * N);  // the next rows
        accumulate(d_y[j] + row * N, N, 1, panel, N, acc);
        panel += N * kPanel;
      }
      store_columns(acc, width, to, p.K);
    });
  });
}

// A part of a projection's columns.
struct Part {
  const float* d_y;
  float* sums;  // [K / kPanel][N][kPanel], of the whole projection
  int64_t N, first, last;
};

// The parts of the projections in columns [begin, end) of all of them.
std::vector<Part> parts_of(const SharedInputProblem& p, int64_t begin, int64_t end,
                           const std::vector<const float*>& d_y, float* sums) {
  std::vector<Part> parts;
  int64_t before = 0;
  for (size_t j = 0; j < p.projections.size(); ++j) {
    const int64_t N = p.projections[j].N;
    const Part part{d_y[j], sums + before * padded_to_panels(p.K), N, HWY_MAX(begin - before, 0),
                    HWY_MIN(end - before, N)};
    if (part.first < part.last) parts.push_back(part);
    before += N;
  }
  return parts;
}

// Adds d_y^T x over a block of rows to a part's sums, or sets them. `tiles` is from pack_tiles(), `panel` from
// pack_columns().
template <int kVecs>
HWY_INLINE const float* add_block(const Part& part, int64_t first, int64_t rows, bool set, const float* tiles,
                                  const float* panel, int64_t column) {
  float* to = part.sums + column * part.N;
  const float* next = part.d_y + (first + rows) * part.N;  // the next block, which is contiguous
  for_tiles(part.first, part.last, [&](int64_t n, auto count) {
    Vec acc[count()][kVecs];
    if (column == 0) prefetch(next + n * rows, count() * rows);
    set ? clear(acc) : load_tile(to + n * kPanel, acc);
    accumulate(tiles, 1, kTileRows, panel, rows, acc);
    store_tile(acc, to + n * kPanel, kPanel);
    tiles += rows * kTileRows;
  });
  return tiles;
}

// The sums of some parts over one chunk of rows.
void weight_chunk(const SharedInputProblem& p, int64_t chunk, const std::vector<Part>& parts, const float* x) {
  const int64_t start = chunk * chunk_rows(p), stop = HWY_MIN(start + chunk_rows(p), p.rows);
  int64_t columns = 0;
  for (const Part& part : parts) columns += (part.last - part.first + 2 * kTileRows) / kTileRows * kTileRows;
  float* tiles = static_cast<float*>(scratch(static_cast<size_t>(columns * kBlockRows) * sizeof(float)));
  HWY_ALIGN_MAX float panel[kBlockRows * kPanel];
  for (int64_t first = start; first < stop; first += kBlockRows) {
    const int64_t rows = HWY_MIN(kBlockRows, stop - first);
    float* to = tiles;
    for (const Part& part : parts) to = pack_tiles(part.d_y + first * part.N, part.N, rows, part.first, part.last, to);
    for_panels(p.K, [&](int64_t column, int64_t width, auto vectors) {
      pack_columns(x + first * p.K, p.K, rows, column, width, panel);
      prefetch(x + (first + rows) * p.K + column * rows, width * rows);  // a share of the next block
      const float* from = tiles;
      for (const Part& part : parts) {
        from = add_block<vectors()>(part, first, rows, first == start, from, panel, column);
      }
    });
  }
}

// Rows [first, last) of a weight's gradient: the sum over the chunks, whose sums are `step` floats apart.
void sum_chunks(int64_t chunks, const float* sums, int64_t step, int64_t N, int64_t K, int64_t first, int64_t last,
                float* d_weight) {
  for_panels(K, [&](int64_t column, int64_t width, auto) {
    for (int64_t n = first; n < last; ++n) {
      Vec acc[1][2] = {{zero(), zero()}};
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const float* from = sums + chunk * step + column * N + n * kPanel;
        acc[0][0] = hn::Add(acc[0][0], load(from));
        if (width > kLanes) acc[0][1] = hn::Add(acc[0][1], load(from + kLanes));
      }
      store_columns(acc, width, d_weight + n * K + column, K);
    }
  });
}

}  // namespace

void shared_input_forward(const SharedInputProblem& p, const float* x, const std::vector<float*>& y, float* panels) {
  float* to = panels;
  for (const auto& [N, weight] : p.projections) {
    run_tasks((N + kPanel - 1) / kPanel, [&, N = N, weight = weight](int64_t i) {
      pack_transposed(weight, p.K, i * kPanel, HWY_MIN(kPanel, N - i * kPanel), to + i * kPanel * p.K);
    });
    to += padded_to_panels(N) * p.K;
  }
  for_blocks(p.rows, [&](int64_t first, int64_t last) { forward_block(p, first, last, x, y, panels); });
}

void shared_input_gradient(const SharedInputProblem& p, const std::vector<const float*>& d_y, float* d_x,
                           float* panels) {
  const int64_t all = all_columns(p);
  run_tasks((p.K + kPanel - 1) / kPanel, [&](int64_t i) {
    float* to = panels + i * kPanel * all;
    for (const auto& [N, weight] : p.projections) {
      pack_columns(weight, p.K, N, i * kPanel, HWY_MIN(kPanel, p.K - i * kPanel), to);
      to += N * kPanel;
    }
  });
  for_blocks(p.rows, [&](int64_t first, int64_t last) { gradient_block(p, first, last, d_y, d_x, panels); });
}

void shared_input_weight_gradients(const SharedInputProblem& p, const float* x, const std::vector<const float*>& d_y,
                                   const std::vector<float*>& d_weight, float* sums) {
  const int64_t all = all_columns(p), step = all * padded_to_panels(p.K), chunks = chunks_of(p);
  const int64_t groups = (all + kGroupColumns - 1) / kGroupColumns;
  run_tasks(chunks * groups, [&](int64_t i) {
    const int64_t begin = i % groups * kGroupColumns, chunk = i / groups;
    const int64_t end = HWY_MIN(begin + kGroupColumns, all);
    weight_chunk(p, chunk, parts_of(p, begin, end, d_y, sums + chunk * step), x);
  });
  int64_t before = 0;
  for (size_t j = 0; j < p.projections.size(); ++j) {
    const int64_t N = p.projections[j].N;
    run_tasks((N + kWeightRows - 1) / kWeightRows, [&](int64_t i) {
      sum_chunks(chunks, sums + before * padded_to_panels(p.K), step, N, p.K, i * kWeightRows,
                 HWY_MIN((i + 1) * kWeightRows, N), d_weight[j]);
    });
    before += N;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace klab::kernels::cpu {

HWY_EXPORT(shared_input_forward);
HWY_EXPORT(shared_input_gradient);
HWY_EXPORT(shared_input_weight_gradients);

int64_t shared_input_workspace(const SharedInputProblem& p) {
  int64_t forward = 0;
  for (const auto& projection : p.projections) forward += padded_to_panels(projection.N) * p.K;
  const int64_t backward = all_columns(p) * padded_to_panels(p.K);
  return HWY_MAX(forward, HWY_MAX(chunks_of(p), 1) * backward);
}

void shared_input_forward(const SharedInputProblem& problem, const float* x, const std::vector<float*>& y,
                          float* workspace) {
  HWY_DYNAMIC_DISPATCH(shared_input_forward)(problem, x, y, workspace);
}

void shared_input_gradient(const SharedInputProblem& problem, const std::vector<const float*>& d_y, float* d_x,
                           float* workspace) {
  HWY_DYNAMIC_DISPATCH(shared_input_gradient)(problem, d_y, d_x, workspace);
}

void shared_input_weight_gradients(const SharedInputProblem& problem, const float* x,
                                   const std::vector<const float*>& d_y, const std::vector<float*>& d_weight,
                                   float* workspace) {
  HWY_DYNAMIC_DISPATCH(shared_input_weight_gradients)(problem, x, d_y, d_weight, workspace);
}

}  // namespace klab::kernels::cpu
#endif
