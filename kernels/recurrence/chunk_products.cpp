// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrence/chunk_products.h"

#include <ATen/ATen.h>

#include <bit>

namespace klab::kernels {
namespace {

using at::Tensor;

constexpr int64_t kSmallestChunk = 16, kLargestChunk = 32;

// [C, C], 1 for j < i, else 0.
Tensor below_diagonal(int64_t C, const Tensor& like) { return at::ones({C, C}, like.options()).tril(-1); }

// The exponents of one gate g [.., C, 1], [.., C, C]: its sum over (j, i] for j < i, else 0. Computed as cumulative
// sums down each column, so that here too nothing is subtracted.
Tensor sums_between(const Tensor& g) {
  const Tensor below = below_diagonal(g.size(-2), g).to(at::kBool);
  return at::where(below, g, at::zeros({}, g.options())).cumsum(-2);
}

DecayedProducts stacked_to_products(const Tensor& stacked, size_t rows, size_t columns) {
  DecayedProducts products(rows);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) {
      products[r].push_back(stacked.select(-4, static_cast<int64_t>(r)).select(-3, static_cast<int64_t>(c)));
    }
  }
  return products;
}

// Decay per channel: by recursive halving, see chunk_products.h.
DecayedProducts channel_products(const std::vector<DecayedRows>& rows, const std::vector<Tensor>& columns,
                                 const Tensor& g) {
  const auto R = static_cast<int64_t>(rows.size()), S = static_cast<int64_t>(columns.size());
  const int64_t B = g.size(0), n = g.size(1), C = g.size(2), K = g.size(3);
  // Blocks of one token have no elements below the diagonal. [B, n, blocks, R, S, h, h]
  Tensor blocks = at::zeros({B, n, C, R, S, 1, 1}, g.options());
  for (int64_t h = 1; h < C; h *= 2) {
    const int64_t pairs = C / (2 * h);
    const auto half = [&](const Tensor& x, int64_t side) { return x.reshape({B, n, pairs, 2, h, K}).select(3, side); };
    const Tensor g_left = half(g, 0), g_right = half(g, 1);  // [B, n, pairs, h, K]
    const Tensor to_boundary = sum_after(g_left).exp();
    std::vector<Tensor> right, left;
    for (const DecayedRows& row : rows) {
      const Tensor from_boundary = (row.before_decay ? sum_before(g_right) : sum_through(g_right)).exp();
      right.push_back(half(row.x, 1) * from_boundary);
    }
    for (const Tensor& column : columns) left.push_back(half(column, 0) * to_boundary);
    Tensor lower = at::matmul(at::cat(right, -2), at::cat(left, -2).transpose(-1, -2));  // [B, n, pairs, R h, S h]
    lower = lower.reshape({B, n, pairs, R, h, S, h}).transpose(4, 5);
    const Tensor pair = blocks.reshape({B, n, pairs, 2, R, S, h, h});
    const Tensor top = at::constant_pad_nd(pair.select(3, 0), {0, h});
    blocks = at::cat({top, at::cat({lower, pair.select(3, 1)}, -1)}, -2);
  }
  return stacked_to_products(blocks.select(2, 0), rows.size(), columns.size());
}

// One decay for all channels (or none): a C x C factor on the undecayed products.
DecayedProducts scalar_products(const std::vector<DecayedRows>& rows, const std::vector<Tensor>& columns,
                                const Tensor& g) {
  const int64_t C = rows[0].x.size(-2);
  Tensor through, before;
  if (g.defined()) {
    through = decay_between(g);
    before = at::constant_pad_nd(sums_between(g).narrow(-2, 0, C - 1), {0, 0, 1, 0}).exp() * below_diagonal(C, g);
  } else {
    through = before = below_diagonal(C, rows[0].x);
  }
  DecayedProducts products(rows.size());
  for (size_t r = 0; r < rows.size(); ++r) {
    for (const Tensor& column : columns) {
      products[r].push_back(at::matmul(rows[r].x, column.transpose(-1, -2)) *
                            (rows[r].before_decay ? before : through));
    }
  }
  return products;
}

}  // namespace

int64_t chunk_size(int64_t T) {
  if (T <= kSmallestChunk) return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(T)));
  int64_t best = kSmallestChunk;
  for (int64_t C = kSmallestChunk; C <= kLargestChunk; C *= 2) {
    if ((T + C - 1) / C * C <= (T + best - 1) / best * best) best = C;
  }
  return best;
}

Tensor to_chunks(const Tensor& x, int64_t C) {
  if (!x.defined()) return x;
  const int64_t N = x.size(0), T = x.size(1), HV = x.size(2), D = x.size(3), chunks = (T + C - 1) / C;
  const Tensor padded = chunks * C == T ? x : at::constant_pad_nd(x, {0, 0, 0, 0, 0, chunks * C - T});
  return padded.reshape({N, chunks, C, HV, D}).permute({0, 3, 1, 2, 4}).reshape({N * HV, chunks, C, D});
}

Tensor from_chunks(const Tensor& x, int64_t N, int64_t T) {
  return x.reshape({N, x.size(0) / N, x.size(1) * x.size(2), x.size(3)}).transpose(1, 2).narrow(1, 0, T);
}

Tensor sum_through(const Tensor& g) { return g.cumsum(-2); }
Tensor sum_before(const Tensor& g) {
  return at::constant_pad_nd(g.narrow(-2, 0, g.size(-2) - 1), {0, 0, 1, 0}).cumsum(-2);
}
Tensor sum_after(const Tensor& g) { return sum_before(g.flip(-2)).flip(-2); }

Tensor decay_between(const Tensor& g) { return sums_between(g).exp() * below_diagonal(g.size(-2), g); }

DecayedProducts decayed_products(const std::vector<DecayedRows>& rows, const std::vector<Tensor>& columns,
                                 const Tensor& g) {
  const bool per_channel = g.defined() && g.size(-1) > 1;
  return per_channel ? channel_products(rows, columns, g) : scalar_products(rows, columns, g);
}

Tensor decayed_sums(const Tensor& weights, const Tensor& values, const Tensor& g) {
  const int64_t B = values.size(0), n = values.size(1), C = values.size(2), V = values.size(3);
  Tensor y = at::zeros_like(values);
  for (int64_t h = 1; h < C; h *= 2) {
    const int64_t pairs = C / (2 * h);
    const auto half = [&](const Tensor& x, int64_t side) { return x.reshape({B, n, pairs, 2, h, V}).select(3, side); };
    // The weights of left columns in right rows of the same pair, [B, n, pairs, h, h].
    const Tensor across = weights.reshape({B, n, pairs, 2, h, pairs, 2, h}).select(3, 1).select(5, 0);
    const Tensor lower = across.diagonal(0, 2, 4).permute({0, 1, 4, 2, 3});
    const Tensor left = half(values, 0) * sum_after(half(g, 0)).exp();
    const Tensor right = at::matmul(lower, left) * sum_through(half(g, 1)).exp();
    y = y + at::stack({at::zeros_like(right), right}, 3).reshape({B, n, C, V});
  }
  return y;
}

Tensor with_diagonal(const Tensor& below, const Tensor& x, const Tensor& y) {
  return below + at::diag_embed((x * y).sum(-1));
}

Tensor solve_unit_lower(const Tensor& strictly_lower, const Tensor& right) {
  return at::linalg_solve_triangular(strictly_lower, right, /*upper=*/false, /*left=*/true, /*unitriangular=*/true);
}

}  // namespace klab::kernels
