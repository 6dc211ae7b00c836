// SPDX-License-Identifier: Apache-2.0
#include "kernels/oja/oja.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/common/arguments.h"
#include "kernels/common/checks.h"
#include "kernels/common/packing.h"
#include "kernels/recurrence/chunk_products.h"
#include "kernels/recurrence/recurrence_cost.h"

namespace klab::kernels {

template <InputsOf<OjaInputs> Self, class Visit>
void each_argument(Self& in, Visit&& visit) {
  using enum Size;
  visit(TensorArgument{"q", Role::operand, /*required=*/true, Shape(B, T, H, K)}, in.q);
  visit(TensorArgument{"k", Role::operand, true, Shape(B, T, H, K)}, in.k);
  visit(TensorArgument{"v", Role::operand, true, Shape(B, T, HV, V)}, in.v);
  visit(TensorArgument{"g", Role::gate, true, Shape(B, T, HV, V)}, in.g);
  visit(TensorArgument{"beta", Role::gate, true, Shape(B, T, HV)}, in.beta);
  visit(TensorArgument{"initial_state", Role::state}, in.initial_state);
  visit(TensorArgument{"cu_seqlens", Role::offsets}, in.cu_seqlens);
  visit(Option{"scale"}, in.scale);
}

namespace {

using at::Tensor;

constexpr const char* kOp = "oja_rule";

void check(const OjaInputs& in, int64_t sequences) {
  const Sizes sizes = check_arguments(kOp, in);
  const int64_t H = sizes[Size::H], HV = sizes[Size::HV], K = sizes[Size::K], V = sizes[Size::V];
  TORCH_CHECK_VALUE(H >= 1 && HV % H == 0, kOp, ": v has ", HV, " heads, which must be a multiple of the ", H,
                    " heads of q and k");
  if (in.initial_state.defined()) {
    check_tensor(kOp, "initial_state", in.initial_state, {sequences, HV, K, V}, in.q);
  }
}

// In the accumulation dtype, q scaled, heads expanded to HV, one sequence per row: q, k [N, T, HV, K],
// v, g [N, T, HV, V], beta [N, T, HV, 1], state [N, HV, K, V].
struct Prepared {
  Tensor q, k, v, g, beta, state;
};

Prepared prepare(const OjaInputs& in, const std::vector<int64_t>& offsets, int64_t sequences) {
  const at::ScalarType dtype = accumulation_type(in.v.scalar_type());
  const int64_t HV = in.v.size(2), K = in.q.size(3);
  // Padding of zeros leaves the state unchanged.
  const auto rows = [&](const Tensor& x) { return composed_rows(x, dtype, offsets, HV); };
  const Tensor v = rows(in.v);
  const Tensor state =
      in.initial_state.defined() ? in.initial_state.to(dtype) : at::zeros({sequences, HV, K, v.size(3)}, v.options());
  const double scale = in.scale.value_or(1 / std::sqrt(static_cast<double>(K)));
  return {rows(in.q) * scale, rows(in.k), v, rows(in.g), rows(in.beta), state};
}

OjaOutputs reference(const Prepared& in) {
  Tensor S = in.state;  // [N, HV, K, V]
  std::vector<Tensor> o;
  for (int64_t t = 0; t < in.q.size(1); ++t) {
    const auto row = [&](const Tensor& x) { return x.select(1, t).unsqueeze(-2); };  // [N, HV, 1, ..]
    S = S * row(in.g).exp();
    const Tensor error = row(in.k).transpose(-1, -2) - at::matmul(S, row(in.v).transpose(-1, -2));
    S = S + row(in.beta) * error * row(in.v);
    o.push_back(at::matmul(row(in.q), S).squeeze(-2));
  }
  return {at::stack(o, 1), S};
}

// Within a chunk the corrected keys u = beta (k - S v) solve a triangular system, as the corrected values of the delta
// rule do, and o_t = sum over s <= t of (q_t . u_s) v_s with the decays of the value channels between s and t.
OjaOutputs chunk(Prepared in) {
  const int64_t N = in.v.size(0), T = in.v.size(1), HV = in.v.size(2), V = in.v.size(3), K = in.q.size(3);
  const int64_t C = chunk_size(T);
  for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta}) *x = to_chunks(*x, C);
  const Tensor from_start = sum_through(in.g).exp(), to_end = sum_after(in.g).exp();
  const Tensor products = decayed_products({{in.v}}, {in.v}, in.g)[0][0] * in.beta;
  const Tensor solution = solve_unit_lower(products, at::cat({in.k, in.v * from_start}, -1) * in.beta);
  const auto offset = solution.narrow(-1, 0, K).unbind(1), slope = solution.narrow(-1, K, V).unbind(1),
             decay = in.g.sum(-2, /*keepdim=*/true).exp().unbind(1), written = (in.v * to_end).unbind(1);
  Tensor S = in.state.reshape({N * HV, K, V});
  std::vector<Tensor> entering, solved;  // solved [N HV, C, K]
  for (size_t n = 0; n < offset.size(); ++n) {
    entering.push_back(S);
    solved.push_back(offset[n] - at::bmm(slope[n], S.transpose(-1, -2)));
    S = at::baddbmm(S * decay[n], solved.back().transpose(-1, -2), written[n]);
  }
  const Tensor scores = at::matmul(in.q, at::stack(solved, 1).transpose(-1, -2));
  const Tensor own = scores.diagonal(0, -2, -1).unsqueeze(-1) * in.v;
  const Tensor o = from_start * at::matmul(in.q, at::stack(entering, 1)) + decayed_sums(scores, in.v, in.g) + own;
  return {from_chunks(o, N, T), S.reshape({N, HV, K, V})};
}

}  // namespace

OjaOutputs oja_rule(const OjaInputs& in, Implementation implementation) {
  TORCH_CHECK_VALUE(in.q.defined() && in.q.dim() == 4, kOp, ": q is missing or not [B, T, H, K]");
  const std::vector<int64_t> offsets = sequence_offsets(kOp, in.cu_seqlens, in.q.size(0), in.q.size(1));
  const int64_t sequences = offsets.empty() ? in.q.size(0) : static_cast<int64_t>(offsets.size()) - 1;
  check(in, sequences);
  const Implementation chosen = choose_composed(kOp, implementation, in.v, in.q.size(1));
  const Prepared prepared = prepare(in, offsets, sequences);
  OjaOutputs out = chosen == Implementation::reference ? reference(prepared) : chunk(prepared);
  if (!offsets.empty()) out.o = pack(out.o, offsets);
  out.o = out.o.to(in.v.scalar_type());
  return out;
}

double oja_flops(int64_t T, int64_t K, int64_t V) { return recurrence_flops(Update::delta, T, V, K); }
double oja_step_flops(int64_t K, int64_t V) { return recurrence_step_flops(Update::delta, V, K); }

}  // namespace klab::kernels
