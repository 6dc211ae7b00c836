// SPDX-License-Identifier: Apache-2.0
// Calls the CPU kernels of the short convolution on tensors.
#include <ATen/ATen.h>

#include "kernels/common/checks.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/short_conv/cpu/short_conv.h"
#include "kernels/short_conv/short_conv_fused.h"

namespace klab::kernels {
namespace {

using at::Tensor;

// The inputs in the layout of the kernel; owns the memory that `problem` points to.
struct Plain {
  Tensor x, weight, bias, initial_state;  // weight is [W, D]
  cpu::ShortConvProblem problem;

  explicit Plain(const ShortConvInputs& in)
      : x(with_plain_rows(in.x)),
        weight(in.weight.to(at::kFloat).t().contiguous()),
        bias(plain_float(in.bias)),
        initial_state(with_plain_rows(in.initial_state)) {
    problem.D = x.size(2);
    problem.W = weight.size(0);
    problem.sequences =
        sequences_of(x.size(0), x.size(1), sequence_offsets("short_conv", in.cu_seqlens, x.size(0), x.size(1)));
    problem.x = flat_rows_of(x);
    problem.weight = floats(weight);
    problem.bias = floats(bias);
    problem.silu = in.activation == "silu";
    problem.initial_state = flat_rows_of(initial_state);
  }
};

ShortConvOutputs forward(const ShortConvInputs& in) {
  const Plain plain(in);
  const cpu::ShortConvProblem& p = plain.problem;
  ShortConvOutputs out{empty_result(in.x.sizes(), in.x.options()),
                       at::empty({static_cast<int64_t>(p.sequences.size()), p.W - 1, p.D}, in.x.options())};
  cpu::short_conv_forward(p, mutable_flat_rows_of(out.y), mutable_flat_rows_of(out.final_state));
  return out;
}

ShortConvInputs backward(const ShortConvInputs& in, const Tensor& d_y, const Tensor& d_final_state) {
  const Plain plain(in);
  const cpu::ShortConvProblem& p = plain.problem;
  const auto N = static_cast<int64_t>(p.sequences.size());
  const auto float32 = in.x.options().dtype(at::kFloat);
  ShortConvInputs d;
  d.x = empty_result(in.x.sizes(), in.x.options());
  d.initial_state = empty_result_like(in.initial_state);
  const Tensor d_weight = at::empty({N, p.W, p.D}, float32);
  const Tensor d_bias = in.bias.defined() ? at::empty({N, p.D}, float32) : Tensor();
  cpu::short_conv_backward(
      p, flat_rows_of(d_y), flat_rows_of(d_final_state),
      {mutable_flat_rows_of(d.x), mutable_flat_rows_of(d.initial_state), floats(d_weight), floats(d_bias)});
  d.weight = sum_rows(d_weight).t().to(in.weight.scalar_type());
  if (in.bias.defined()) d.bias = sum_rows(d_bias).to(in.bias.scalar_type());
  return d;
}

}  // namespace

std::string short_conv_cpu_unsupported_reason(const ShortConvInputs& in) {
  if (in.weight.size(1) > cpu::kMostTaps) return "it supports at most " + std::to_string(cpu::kMostTaps) + " taps";
  return cpu_unsupported_reason({in.x, in.weight, in.bias, in.initial_state});
}

const FusedShortConv cpu_short_conv{forward, backward};

}  // namespace klab::kernels
