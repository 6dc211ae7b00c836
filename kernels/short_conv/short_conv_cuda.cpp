// SPDX-License-Identifier: Apache-2.0
// Calls the CUDA kernels of the short convolution on tensors. Nothing here synchronises with the device.
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "kernels/common/cuda/backend.h"
#include "kernels/common/kernel_choice.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/short_conv/short_conv_fused.h"

namespace klab::kernels {
namespace {

using at::Tensor;

// Rows of a contiguous [D] or [D, W].
Rows parameter_rows(const Tensor& x) {
  if (!x.defined()) return {};
  Rows rows = flat_rows_of(x.view({1, x.size(0), -1}));
  rows.batch = rows.token;
  return rows;
}

// The inputs in the layout of the kernel; owns the memory that `problem` points to.
struct Plain {
  Tensor x, weight, bias, initial_state, offsets;
  cuda::ShortConvProblem problem;

  explicit Plain(const ShortConvInputs& in)
      : x(with_plain_rows(in.x)),
        weight(in.weight.contiguous()),
        bias(in.bias.defined() ? in.bias.contiguous() : in.bias),
        initial_state(with_plain_rows(in.initial_state)) {
    problem.B = x.size(0);
    problem.D = x.size(2);
    problem.W = weight.size(1);
    problem.sequences = {x.size(0), x.size(1)};
    if (in.cu_seqlens.defined()) {
      offsets = in.cu_seqlens.to(x.device(), at::kLong).contiguous();
      problem.sequences = {offsets.size(0) - 1, x.size(1), offsets.data_ptr<int64_t>()};
    }
    problem.x = flat_rows_of(x);
    problem.weight = parameter_rows(weight);
    problem.bias = parameter_rows(bias);
    problem.silu = in.activation == "silu";
    if (problem.W > 1) problem.initial_state = flat_rows_of(initial_state);
  }
};

ShortConvOutputs forward(const ShortConvInputs& in) {
  const c10::OptionalDeviceGuard guard(in.x.device());
  const Plain plain(in);
  const cuda::ShortConvProblem& p = plain.problem;
  const cuda::Backend& cuda = cuda::backend();
  ShortConvOutputs out{at::empty(in.x.sizes(), in.x.options()),
                       at::empty({p.sequences.count, p.W - 1, p.D}, in.x.options())};
  cuda.short_conv_forward(p, mutable_flat_rows_of(out.y), mutable_flat_rows_of(out.final_state),
                          cuda.stream(in.x.device()));
  return out;
}

ShortConvInputs backward(const ShortConvInputs& in, const Tensor& d_y, const Tensor& d_final_state) {
  const c10::OptionalDeviceGuard guard(in.x.device());
  const Plain plain(in);
  const cuda::ShortConvProblem& p = plain.problem;
  const cuda::Backend& cuda = cuda::backend();
  ShortConvInputs d;
  d.x = at::empty(in.x.sizes(), in.x.options());
  if (in.initial_state.defined()) d.initial_state = at::empty(in.initial_state.sizes(), in.initial_state.options());
  const Tensor parameters = at::empty({p.W + 1, p.D}, in.x.options().dtype(at::kFloat));
  const Tensor space = workspace(cuda.short_conv_backward_workspace(p), in.x);
  const bool stateful = p.W > 1;
  cuda.short_conv_backward(
      p, flat_rows_of(d_y), stateful ? flat_rows_of(d_final_state) : Rows{},
      {mutable_flat_rows_of(d.x), stateful ? mutable_flat_rows_of(d.initial_state) : MutableRows{}, floats(parameters)},
      space.data_ptr(), cuda.stream(in.x.device()));
  d.weight = parameters.narrow(0, 0, p.W).t().to(in.weight.scalar_type());
  if (in.bias.defined()) d.bias = parameters[p.W].to(in.bias.scalar_type());
  return d;
}

}  // namespace

std::string short_conv_cuda_unsupported_reason(const ShortConvInputs& in) {
  if (in.weight.size(1) > cuda::kMostConvTaps)
    return "it supports at most " + std::to_string(cuda::kMostConvTaps) + " taps";
  return cuda_unsupported_reason({in.x, in.weight, in.bias, in.initial_state});
}

const FusedShortConv cuda_short_conv{forward, backward};

}  // namespace klab::kernels
