// SPDX-License-Identifier: Apache-2.0
// The chunk form: within a chunk of C tokens everything is a matrix product, and only the state is passed between
// chunks.
#include <ATen/ATen.h>

#include "kernels/recurrence/chunk_products.h"
#include "kernels/recurrence/recurrence_arguments.h"
#include "kernels/recurrence/recurrence_forms.h"

namespace klab::kernels {
namespace {

using at::Tensor;

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
      const DecayedProducts P = decayed_products({{in.q}}, {in.k}, in.g);
      maps.local = at::matmul(with_diagonal(P[0][0], in.q, in.k), in.v);
      maps.written = at::matmul((in.k * to_end).transpose(-1, -2), in.v);
      break;
    }
    case Update::delta: {
      // (I + A) solved = beta (v - (from_start k)^T S)
      const DecayedProducts P = decayed_products({{in.k}, {in.q}}, {in.k}, in.g);
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
      const DecayedProducts P = decayed_products({{in.a, /*before_decay=*/true}, {in.q}}, {in.k, in.b}, in.g);
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
  out.o = from_chunks(out.o, N, T);
  out.final_state = out.final_state.reshape({N, HV, K, V});
  return out;
}

}  // namespace klab::kernels
