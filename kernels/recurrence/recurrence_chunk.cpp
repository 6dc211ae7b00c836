// SPDX-License-Identifier: Apache-2.0
// The chunk form: within a chunk of C tokens everything is a matrix product, and only the state is passed between
// chunks.
//
// With G the cumulative sum of g inside a chunk, the decay between token j and a later token i is exp(G_i - G_j). This
// difference of two sums, or a split of it around one reference token, loses precision or overflows for strong gates.
// Here no sums are subtracted. The C x C matrix is split recursively into halves: where row i is in the right half of a
// block and column j in its left half, the exponent is
//     (sum of g from the boundary to row i)  +  (sum of g from column j to the boundary),
// two sums of numbers <= 0 over disjoint tokens, each exponentiated into a factor in [0, 1]. So the form is numerically
// stable for any gate, including -infinity, and after a hard reset, and a row does not depend on later tokens.
#include <ATen/ATen.h>

#include <bit>

#include "kernels/recurrence/recurrence_arguments.h"
#include "kernels/recurrence/recurrence_forms.h"

namespace klab::kernels {
namespace {

using at::Tensor;

constexpr int64_t kSmallestChunk = 16, kLargestChunk = 32;

// The largest chunk size among those that pad T the least: fewer sequential steps for the same work.
int64_t chunk_size(int64_t T) {
  if (T <= kSmallestChunk) return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(T)));
  int64_t best = kSmallestChunk;
  for (int64_t C = kSmallestChunk; C <= kLargestChunk; C *= 2) {
    if ((T + C - 1) / C * C <= (T + best - 1) / best * best) best = C;
  }
  return best;
}

// [N, T, HV, D] as chunks [N * HV, T / C, C, D], zero-padded at the end.
Tensor to_chunks(const Tensor& x, int64_t C) {
  if (!x.defined()) return x;
  const int64_t N = x.size(0), T = x.size(1), HV = x.size(2), D = x.size(3), chunks = (T + C - 1) / C;
  const Tensor padded = chunks * C == T ? x : at::constant_pad_nd(x, {0, 0, 0, 0, 0, chunks * C - T});
  return padded.reshape({N, chunks, C, HV, D}).permute({0, 3, 1, 2, 4}).reshape({N * HV, chunks, C, D});
}

// Cumulative sums over tokens (dimension -2): through token i, before it (exclusive), and after it (exclusive).
Tensor sum_through(const Tensor& g) { return g.cumsum(-2); }
Tensor sum_before(const Tensor& g) {
  return at::constant_pad_nd(g.narrow(-2, 0, g.size(-2) - 1), {0, 0, 1, 0}).cumsum(-2);
}
Tensor sum_after(const Tensor& g) { return sum_before(g.flip(-2)).flip(-2); }

// A left operand of decayed products. A row reads the state before or after its own token's decay.
struct Rows {
  Tensor x;  // [.., C, K]
  bool before_decay = false;
};

// All products of `rows` with `columns` under the decay between them, strictly below the diagonal:
//     P[i, j] = sum_d rows[i, d] columns[j, d] exp(sum of g over (j, i])  for j < i, else 0
// (over (j, i) for rows before their decay). Gives result[r][c], each [.., C, C].
using Products = std::vector<std::vector<Tensor>>;

Products stacked_to_products(const Tensor& stacked, size_t rows, size_t columns) {
  Products products(rows);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) {
      products[r].push_back(stacked.select(-4, static_cast<int64_t>(r)).select(-3, static_cast<int64_t>(c)));
    }
  }
  return products;
}

// Decay per channel: by recursive halving, see the top of this file.
Products channel_products(const std::vector<Rows>& rows, const std::vector<Tensor>& columns, const Tensor& g) {
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
    for (const Rows& row : rows) {
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

// One decay for all channels (or none): a C x C factor on the undecayed products. Its exponents are sums over the
// tokens in between, computed as cumulative sums down each column, so here too nothing is subtracted.
Products scalar_products(const std::vector<Rows>& rows, const std::vector<Tensor>& columns, const Tensor& g) {
  const int64_t C = rows[0].x.size(-2);
  const Tensor below = at::ones({C, C}, rows[0].x.options().dtype(at::kBool)).tril(-1);  // j < i
  Tensor through, before;
  if (g.defined()) {
    const Tensor between = at::where(below, g, at::zeros({}, g.options())).cumsum(-2);  // [.., i, j]: sum over (j, i]
    through = at::where(below, between.exp(), at::zeros({}, g.options()));
    before = at::where(below, at::constant_pad_nd(between.narrow(-2, 0, C - 1), {0, 0, 1, 0}).exp(),
                       at::zeros({}, g.options()));
  } else {
    through = before = below.to(rows[0].x.scalar_type());
  }
  Products products(rows.size());
  for (size_t r = 0; r < rows.size(); ++r) {
    for (const Tensor& column : columns) {
      products[r].push_back(at::matmul(rows[r].x, column.transpose(-1, -2)) *
                            (rows[r].before_decay ? before : through));
    }
  }
  return products;
}

Products decayed_products(const std::vector<Rows>& rows, const std::vector<Tensor>& columns, const Tensor& g) {
  const bool per_channel = g.defined() && g.size(-1) > 1;
  return per_channel ? channel_products(rows, columns, g) : scalar_products(rows, columns, g);
}

// Adds the diagonal, which has no decay: sum_d x[i, d] y[i, d].
Tensor with_diagonal(const Tensor& below, const Tensor& x, const Tensor& y) {
  return below + at::diag_embed((x * y).sum(-1));
}

// The affine maps of a chunk, applied to the state S before it:
//     solved = offset + slope S      (delta: the corrected values; DPLR: the reads of `a`)
//     o      = local + reader S + inner solved
//     S'     = decay * S + written + writer^T solved
// Undefined members are absent terms.
struct ChunkMaps {
  Tensor offset, slope;           // [B, n, C, V], [B, n, C, K]
  Tensor local, reader, inner;    // [B, n, C, V], [B, n, C, K], [B, n, C, C]
  Tensor decay, written, writer;  // [B, n, K or 1, 1], [B, n, K, V], [B, n, C, K]
};

Tensor solve_unit_lower(const Tensor& strictly_lower, const Tensor& right) {
  return at::linalg_solve_triangular(strictly_lower, right, /*upper=*/false, /*left=*/true, /*unitriangular=*/true);
}

ChunkMaps chunk_maps(const RecurrenceInputs& in, Update update) {
  const int64_t K = in.q.size(-1), V = in.v.size(-1);
  const Tensor one = at::ones({}, in.q.options());
  const Tensor from_start = in.g.defined() ? sum_through(in.g).exp() : one;
  const Tensor before = in.g.defined() ? sum_before(in.g).exp() : one;
  const Tensor to_end = in.g.defined() ? sum_after(in.g).exp() : one;

  ChunkMaps maps;
  maps.reader = in.q * from_start;
  if (in.g.defined()) maps.decay = in.g.sum(-2).exp().unsqueeze(-1);
  switch (update) {
    case Update::accumulate: {
      const Products P = decayed_products({{in.q}}, {in.k}, in.g);
      maps.local = at::matmul(with_diagonal(P[0][0], in.q, in.k), in.v);
      maps.written = at::matmul((in.k * to_end).transpose(-1, -2), in.v);
      break;
    }
    case Update::delta: {
      // (I + A) solved = beta (v - (from_start k)^T S)
      const Products P = decayed_products({{in.k}, {in.q}}, {in.k}, in.g);
      const Tensor right = at::cat({in.v, in.k * from_start}, -1) * in.beta;
      const Tensor solution = solve_unit_lower(P[0][0] * in.beta, right);
      maps.offset = solution.narrow(-1, 0, V);
      maps.slope = -solution.narrow(-1, V, K);
      maps.inner = with_diagonal(P[1][0], in.q, in.k);
      maps.writer = in.k * to_end;
      break;
    }
    case Update::dplr: {
      // (I - A_ab) solved = A_ak v + (before a)^T S
      const Products P = decayed_products({{in.a, /*before_decay=*/true}, {in.q}}, {in.k, in.b}, in.g);
      const Tensor right = at::cat({at::matmul(P[0][0], in.v), in.a * before}, -1);
      const Tensor solution = solve_unit_lower(-P[0][1], right);
      maps.offset = solution.narrow(-1, 0, V);
      maps.slope = solution.narrow(-1, V, K);
      maps.local = at::matmul(with_diagonal(P[1][0], in.q, in.k), in.v);
      maps.inner = with_diagonal(P[1][1], in.q, in.b);
      maps.written = at::matmul((in.k * to_end).transpose(-1, -2), in.v);
      maps.writer = in.b * to_end;
      break;
    }
  }
  return maps;
}

// Applies the chunks in sequence. Uses unbind, because indexing in the loop would make the backward pass quadratic in
// the number of chunks.
RecurrenceOutputs scan(const ChunkMaps& maps, Tensor S, int64_t chunks) {
  const auto along = [&](const Tensor& x) {
    return x.defined() ? x.unbind(1) : std::vector<Tensor>(static_cast<size_t>(chunks));
  };
  const auto offset = along(maps.offset), slope = along(maps.slope), decay = along(maps.decay),
             written = along(maps.written), writer = along(maps.writer);
  std::vector<Tensor> entering, solved;
  for (size_t n = 0; n < static_cast<size_t>(chunks); ++n) {
    entering.push_back(S);
    if (decay[n].defined()) S = S * decay[n];
    if (written[n].defined()) S = S + written[n];
    if (slope[n].defined()) {
      solved.push_back(at::baddbmm(offset[n], slope[n], entering.back()));
      S = at::baddbmm(S, writer[n].transpose(-1, -2), solved.back());
    }
  }
  Tensor o = at::matmul(maps.reader, at::stack(entering, 1));
  if (maps.inner.defined()) o = o + at::matmul(maps.inner, at::stack(solved, 1));
  if (maps.local.defined()) o = o + maps.local;
  return {o, S};
}

}  // namespace

RecurrenceOutputs recurrence_chunk(const PreparedInputs& in) {
  const int64_t N = in.v.size(0), T = in.v.size(1), HV = in.v.size(2), V = in.v.size(3), K = in.q.size(3);
  const int64_t C = chunk_size(T);
  const int64_t chunks = (T + C - 1) / C;

  RecurrenceInputs chunked = in;
  each_tensor(chunked, [&](const TensorArgument& argument, Tensor& x) {
    if (argument.is_rows()) x = to_chunks(x, C);
  });

  RecurrenceOutputs out = scan(chunk_maps(chunked, in.update()), in.initial_state.reshape({N * HV, K, V}), chunks);
  out.o = out.o.reshape({N, HV, chunks * C, V}).transpose(1, 2).narrow(1, 0, T);
  out.final_state = out.final_state.reshape({N, HV, K, V});
  return out;
}

}  // namespace klab::kernels
