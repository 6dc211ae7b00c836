// SPDX-License-Identifier: Apache-2.0
#include "kernels/norms/norms_fused.h"

#include <ATen/ATen.h>

#include "kernels/common/kernel_tensors.h"

namespace klab::kernels {
namespace {

using at::Tensor;

template <typename View>
View rows_of_last(const Tensor& x, View (*flat)(const Tensor&)) {
  if (!x.defined()) return {};
  View rows = flat(x.view({1, -1, x.size(-1)}));
  rows.batch = x.size(-1);
  return rows;
}

GateActivation activation_named(const std::string& name) {
  if (name == "sigmoid") return GateActivation::sigmoid;
  return name == "swish" ? GateActivation::swish : GateActivation::none;
}

}  // namespace

PlainNorm::PlainNorm(const NormInputs& in)
    : x(in.x.contiguous()), weight(plain_float(in.weight)), gate(in.gate.defined() ? in.gate.contiguous() : in.gate) {
  problem.D = x.size(-1);
  problem.rows = problem.D > 0 ? x.numel() / problem.D : 0;
  problem.x = norm_rows(x);
  problem.weight = floats(weight);
  problem.gate = norm_rows(gate);
  problem.activation = activation_named(in.activation);
  problem.eps = static_cast<float>(in.eps);
  problem.mean = in.mean;
}

Rows norm_rows(const Tensor& x) { return rows_of_last<Rows>(x, flat_rows_of); }
MutableRows mutable_norm_rows(const Tensor& x) { return rows_of_last<MutableRows>(x, mutable_flat_rows_of); }

}  // namespace klab::kernels
