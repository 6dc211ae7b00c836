// SPDX-License-Identifier: Apache-2.0
#include "kernels/momentum/momentum.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/common/arguments.h"
#include "kernels/common/checks.h"
#include "kernels/common/packing.h"
#include "kernels/recurrence/chunk_products.h"
#include "kernels/recurrence/recurrence_cost.h"

namespace klab::kernels {

// Outside the anonymous namespace, where the argument functions look for it.
template <InputsOf<MomentumInputs> Self, class Visit>
void each_argument(Self& in, Visit&& visit) {
  using enum Size;
  visit(TensorArgument{"q", Role::operand, /*required=*/true, Shape(B, T, H, K)}, in.q);
  visit(TensorArgument{"k", Role::operand, true, Shape(B, T, H, K)}, in.k);
  visit(TensorArgument{"v", Role::operand, true, Shape(B, T, HV, V)}, in.v);
  visit(TensorArgument{"g", Role::gate, true, Shape(B, T, HV)}, in.g);
  visit(TensorArgument{"log_mu", Role::gate, true, Shape(B, T, HV)}, in.log_mu);
  visit(TensorArgument{"beta", Role::gate, true, Shape(B, T, HV)}, in.beta);
  visit(TensorArgument{"eta", Role::gate, true, Shape(B, T, HV)}, in.eta);
  visit(TensorArgument{"initial_state", Role::state}, in.initial_state);
  visit(TensorArgument{"cu_seqlens", Role::offsets}, in.cu_seqlens);
  visit(Option{"scale"}, in.scale);
}

namespace {

using at::Tensor;

constexpr const char* kOp = "momentum_delta_rule";

void check(const MomentumInputs& in, int64_t sequences) {
  const Sizes sizes = check_arguments(kOp, in);
  const int64_t H = sizes[Size::H], HV = sizes[Size::HV], K = sizes[Size::K], V = sizes[Size::V];
  TORCH_CHECK_VALUE(H >= 1 && HV % H == 0, kOp, ": v has ", HV, " heads, which must be a multiple of the ", H,
                    " heads of q and k");
  if (in.initial_state.defined()) {
    check_tensor(kOp, "initial_state", in.initial_state, {sequences, HV, 2 * K, V}, in.q);
  }
}

// In the accumulation dtype, q scaled, eta in k' = eta k, heads expanded to HV, one sequence per row:
// q, k, k' [N, T, HV, K], v [N, T, HV, V], g, log_mu, beta [N, T, HV, 1], state [N, HV, 2 K, V].
struct Prepared {
  Tensor q, k, stepped, v, g, log_mu, beta, state;
};

Prepared prepare(const MomentumInputs& in, const std::vector<int64_t>& offsets, int64_t sequences) {
  const at::ScalarType dtype = accumulation_type(in.v.scalar_type());
  const int64_t HV = in.v.size(2), K = in.q.size(3);
  // Padding of zeros leaves the state unchanged.
  const auto rows = [&](const Tensor& x) { return composed_rows(x, dtype, offsets, HV); };
  const Tensor k = rows(in.k), v = rows(in.v);
  const Tensor state = in.initial_state.defined() ? in.initial_state.to(dtype)
                                                  : at::zeros({sequences, HV, 2 * K, v.size(3)}, v.options());
  const double scale = in.scale.value_or(1 / std::sqrt(static_cast<double>(K)));
  return {rows(in.q) * scale, k, k * rows(in.eta), v, rows(in.g), rows(in.log_mu), rows(in.beta), state};
}

MomentumOutputs reference(const Prepared& in) {
  const int64_t K = in.q.size(3);
  Tensor S = in.state.narrow(2, 0, K), M = in.state.narrow(2, K, K);  // [N, HV, K, V]
  std::vector<Tensor> o;
  for (int64_t t = 0; t < in.q.size(1); ++t) {
    const auto row = [&](const Tensor& x) { return x.select(1, t).unsqueeze(-2); };  // [N, HV, 1, ..]
    const Tensor decayed = row(in.g).exp() * S;
    const Tensor error = at::matmul(row(in.k), decayed) - row(in.v);
    M = row(in.log_mu).exp() * M + row(in.stepped).transpose(-1, -2) * error;
    S = decayed - row(in.beta) * M;
    o.push_back(at::matmul(row(in.q), S).squeeze(-2));
  }
  return {at::stack(o, 1), at::cat({S, M}, 2)};
}

// The affine maps of a chunk on X = [S; M] before it, with the errors w = alpha S^T k - v as `solved`:
//     solved = offset + slope X    o = reader X + inner solved    X' = [[alpha, -shift], [0, mu]] X + writer^T solved
struct ChunkMaps {
  Tensor offset, slope;     // [B, n, C, V], [B, n, C, 2 K]
  Tensor reader, inner;     // [B, n, C, 2 K], [B, n, C, C]
  Tensor alpha, shift, mu;  // [B, n, 1, 1]
  Tensor writer;            // [B, n, C, 2 K]
};

// Unrolled, S_t = a_t S_0 - sum over s <= t of P[t, s] k'_s w_s^T - p_t M_0, where a_t is the product of alphas through
// t and P[t, s] = sum over r in [s, t] of (alphas of (r, t]) beta_r (mus of (s, r]): products of decays, without
// quotients.
ChunkMaps chunk_maps(const Prepared& in) {
  const int64_t V = in.v.size(-1), K = in.q.size(-1), C = in.q.size(-2);
  const Tensor one = at::eye(C, in.q.options());
  const Tensor alphas = decay_between(in.g), mus = decay_between(in.log_mu) + one;
  const Tensor a = sum_through(in.g).exp(), m = sum_through(in.log_mu).exp();  // [B, n, C, 1]
  const Tensor moved = in.beta * mus, moved_first = in.beta * m;
  // After a token, and before its own write with its decay: without the term r = t.
  const Tensor P = at::matmul(alphas + one, moved), before = at::matmul(alphas, moved);
  const Tensor p = at::matmul(alphas + one, moved_first), p_before = at::matmul(alphas, moved_first);

  ChunkMaps maps;
  const Tensor products = before * at::matmul(in.k, in.stepped.transpose(-1, -2));  // strictly lower, as `before`
  const Tensor right = at::cat({-in.v, a * in.k, -p_before * in.k}, -1);
  const Tensor solution = solve_unit_lower(products, right);
  maps.offset = solution.narrow(-1, 0, V);
  maps.slope = solution.narrow(-1, V, 2 * K);
  maps.reader = at::cat({a * in.q, -p * in.q}, -1);
  maps.inner = -P * at::matmul(in.q, in.stepped.transpose(-1, -2));
  maps.alpha = a.narrow(-2, C - 1, 1);
  maps.shift = p.narrow(-2, C - 1, 1);
  maps.mu = m.narrow(-2, C - 1, 1);
  const auto at_end = [&](const Tensor& x) { return x.narrow(-2, C - 1, 1).transpose(-1, -2); };  // [B, n, C, 1]
  maps.writer = at::cat({-at_end(P) * in.stepped, at_end(mus) * in.stepped}, -1);
  return maps;
}

MomentumOutputs chunk(Prepared in) {
  const int64_t N = in.v.size(0), T = in.v.size(1), HV = in.v.size(2), V = in.v.size(3), K = in.q.size(3);
  const int64_t C = chunk_size(T);
  for (Tensor* x : {&in.q, &in.k, &in.stepped, &in.v, &in.g, &in.log_mu, &in.beta}) *x = to_chunks(*x, C);
  const ChunkMaps maps = chunk_maps(in);
  // unbind, because indexing in the loop would make the backward pass quadratic in the number of chunks.
  const auto offset = maps.offset.unbind(1), slope = maps.slope.unbind(1), alpha = maps.alpha.unbind(1),
             shift = maps.shift.unbind(1), mu = maps.mu.unbind(1), writer = maps.writer.unbind(1);
  Tensor X = in.state.reshape({N * HV, 2 * K, V});
  std::vector<Tensor> entering, solved;
  for (size_t n = 0; n < offset.size(); ++n) {
    entering.push_back(X);
    solved.push_back(at::baddbmm(offset[n], slope[n], X));
    const Tensor S = X.narrow(1, 0, K), M = X.narrow(1, K, K);
    X = at::baddbmm(at::cat({alpha[n] * S - shift[n] * M, mu[n] * M}, 1), writer[n].transpose(-1, -2), solved.back());
  }
  const Tensor o = at::matmul(maps.reader, at::stack(entering, 1)) + at::matmul(maps.inner, at::stack(solved, 1));
  return {from_chunks(o, N, T), X.reshape({N, HV, 2 * K, V})};
}

}  // namespace

MomentumOutputs momentum_delta_rule(const MomentumInputs& in, Implementation implementation) {
  TORCH_CHECK_VALUE(in.q.defined() && in.q.dim() == 4, kOp, ": q is missing or not [B, T, H, K]");
  const std::vector<int64_t> offsets = sequence_offsets(kOp, in.cu_seqlens, in.q.size(0), in.q.size(1));
  const int64_t sequences = offsets.empty() ? in.q.size(0) : static_cast<int64_t>(offsets.size()) - 1;
  check(in, sequences);
  const Implementation chosen = choose_composed(kOp, implementation, in.v, in.q.size(1));
  const Prepared prepared = prepare(in, offsets, sequences);
  MomentumOutputs out = chosen == Implementation::reference ? reference(prepared) : chunk(prepared);
  if (!offsets.empty()) out.o = pack(out.o, offsets);
  out.o = out.o.to(in.v.scalar_type());
  return out;
}

double momentum_flops(int64_t T, int64_t K, int64_t V) {
  // Correction and read of both states, two writes, and the products of decays.
  const auto t = static_cast<double>(T), c = static_cast<double>(kCountedChunk), k = static_cast<double>(K),
             v = static_cast<double>(V);
  return t * (12 * k * v + 3 * c * k + c * v + 2 * c * c);
}

double momentum_step_flops(int64_t K, int64_t V) { return 11 * static_cast<double>(K) * static_cast<double>(V); }

}  // namespace klab::kernels
