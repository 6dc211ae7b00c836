// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include "kernels/recurrence/recurrence_forms.h"

namespace klab::kernels {
namespace {

// x^T S for every row: [N, HV, K] with [N, HV, K, V] gives [N, HV, 1, V].
at::Tensor read(const at::Tensor& x, const at::Tensor& S) { return at::matmul(x.unsqueeze(-2), S); }

// x y^T for every row: [N, HV, K] with [N, HV, 1, V] gives [N, HV, K, V].
at::Tensor outer_product(const at::Tensor& x, const at::Tensor& y) { return x.unsqueeze(-1) * y; }

}  // namespace

RecurrenceOutputs recurrence_reference(const PreparedInputs& in) {
  const Update update = in.update();
  at::Tensor S = in.initial_state;  // [N, HV, K, V]
  std::vector<at::Tensor> o;
  for (int64_t t = 0; t < in.q.size(1); ++t) {
    const at::Tensor q = in.q.select(1, t), k = in.k.select(1, t);  // [N, HV, K]
    const at::Tensor v = in.v.select(1, t).unsqueeze(-2);           // [N, HV, 1, V]
    const at::Tensor undecayed = S;
    if (in.g.defined()) S = S * in.g.select(1, t).exp().unsqueeze(-1);
    switch (update) {
      case Update::accumulate: S = S + outer_product(k, v); break;
      case Update::delta: S = S + outer_product(in.beta.select(1, t) * k, v - read(k, S)); break;
      case Update::dplr:
        S = S + outer_product(k, v) + outer_product(in.b.select(1, t), read(in.a.select(1, t), undecayed));
        break;
    }
    o.push_back(read(q, S).squeeze(-2));  // read after write
  }
  return {at::stack(o, 1), S};
}

}  // namespace klab::kernels
