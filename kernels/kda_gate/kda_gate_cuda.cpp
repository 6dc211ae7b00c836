// SPDX-License-Identifier: Apache-2.0
// Calls the CUDA kernels of the gate on tensors. Nothing here synchronises with the device.
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "kernels/common/cuda/backend.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/kda_gate/kda_gate_fused.h"

namespace klab::kernels {
namespace {

using at::Tensor;

// The inputs in the layout of the kernel; owns the memory that `problem` points to.
struct Plain {
  Tensor raw, A_log, dt_bias;
  cuda::KdaGateProblem problem;

  explicit Plain(const KdaGateInputs& in)
      : raw(in.raw.contiguous()), A_log(plain_float(in.A_log)), dt_bias(plain_float(in.dt_bias)) {
    const bool per_channel = raw.dim() == 4;
    const Rows rows = flat_rows_of(raw);
    problem = {.tokens = raw.size(0) * raw.size(1),
               .H = raw.size(2),
               .K = per_channel ? raw.size(3) : 1,
               .raw = rows.data,
               .dtype = rows.dtype,
               .A_log = floats(A_log),
               .dt_bias = floats(dt_bias),
               .bounded = in.lower_bound.has_value(),
               .lower_bound = static_cast<float>(in.lower_bound.value_or(0))};
  }
};

}  // namespace

Tensor kda_gate_cuda_forward(const KdaGateInputs& in) {
  const c10::OptionalDeviceGuard guard(in.raw.device());
  const Plain plain(in);
  const Tensor g = at::empty(plain.raw.sizes(), plain.raw.options().dtype(at::kFloat));
  const cuda::Backend& cuda = cuda::backend();
  cuda.kda_gate_forward(plain.problem, floats(g), cuda.stream(g.device()));
  return g;
}

KdaGateInputs kda_gate_cuda_backward(const KdaGateInputs& in, const Tensor& d_g) {
  const c10::OptionalDeviceGuard guard(in.raw.device());
  const Plain plain(in);
  const cuda::KdaGateProblem& p = plain.problem;
  const cuda::Backend& cuda = cuda::backend();
  const Tensor d_g_rows = plain_float(d_g);
  KdaGateInputs d{.raw = at::empty(in.raw.sizes(), in.raw.options())};
  Tensor d_parameters, space;
  if (in.A_log.defined() || in.dt_bias.defined()) {
    d_parameters = at::empty({2, p.H, p.K}, d_g_rows.options());
    space = workspace(cuda.kda_gate_backward_workspace(p), d_g_rows);
  }
  cuda.kda_gate_backward(p, floats(d_g_rows), d.raw.data_ptr(), floats(d_parameters),
                         space.defined() ? space.data_ptr() : nullptr, cuda.stream(in.raw.device()));
  const auto as = [](const Tensor& gradient, const Tensor& parameter) {
    return gradient.to(parameter.scalar_type()).view_as(parameter);
  };
  if (in.A_log.defined()) d.A_log = as(d_parameters[1].sum(-1), in.A_log);
  if (in.dt_bias.defined()) d.dt_bias = as(d_parameters[0], in.dt_bias);
  return d;
}

}  // namespace klab::kernels
