// SPDX-License-Identifier: Apache-2.0
// Calls the CPU kernels of the gated RMSNorm on tensors.
#include <ATen/ATen.h>

#include "kernels/common/kernel_tensors.h"
#include "kernels/norms/cpu/norms.h"
#include "kernels/norms/norms_fused.h"

namespace klab::kernels {
namespace {

using at::Tensor;

Tensor forward(const NormInputs& in) {
  const PlainNorm plain(in);
  const Tensor y = empty_result_like(plain.x);
  cpu::gated_rms_norm_forward(plain.problem, mutable_norm_rows(y));
  return y;
}

NormInputs backward(const NormInputs& in, const Tensor& d_y) {
  const PlainNorm plain(in);
  const NormProblem& p = plain.problem;
  NormInputs d;
  d.x = empty_result(in.x.sizes(), in.x.options());
  if (in.gate.defined()) d.gate = empty_result(in.gate.sizes(), in.gate.options());
  const Tensor shares =
      at::empty({(p.rows + cpu::kNormRows - 1) / cpu::kNormRows, p.D}, in.x.options().dtype(at::kFloat));
  cpu::gated_rms_norm_backward(p, norm_rows(d_y), {mutable_norm_rows(d.x), mutable_norm_rows(d.gate), floats(shares)});
  d.weight = sum_rows(shares).to(in.weight.scalar_type());
  return d;
}

}  // namespace

const FusedNorm cpu_norm{forward, backward};

}  // namespace klab::kernels
