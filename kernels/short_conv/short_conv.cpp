// SPDX-License-Identifier: Apache-2.0
#include "kernels/short_conv/short_conv.h"

#include <ATen/ATen.h>

#include <array>
#include <functional>

#include "kernels/common/checks.h"
#include "kernels/common/cuda/backend.h"
#include "kernels/common/kernel_choice.h"
#include "kernels/common/operator.h"
#include "kernels/short_conv/short_conv_fused.h"

namespace klab::kernels {
namespace {

using at::Tensor;

constexpr const char* kOp = "short_conv";

// The convolution of sequences (batch rows) that are preceded by their W - 1 past inputs: [N, W - 1 + T, D] gives
// [N, T, D].
using Form = std::function<Tensor(const Tensor& with_past, const ShortConvInputs& in)>;

Tensor by_taps(const Tensor& with_past, const ShortConvInputs& in) {
  const int64_t W = in.weight.size(1), T = with_past.size(1) - W + 1;
  Tensor y = in.bias.defined() ? in.bias.expand({with_past.size(0), T, with_past.size(2)})
                               : at::zeros({with_past.size(0), T, with_past.size(2)}, with_past.options());
  for (int64_t w = 0; w < W; ++w) y = y + in.weight.select(1, w) * with_past.narrow(1, w, T);
  return y;
}

Tensor by_conv1d(const Tensor& with_past, const ShortConvInputs& in) {
  const std::optional<Tensor> bias = in.bias.defined() ? std::optional<Tensor>(in.bias) : std::nullopt;
  const std::array<int64_t, 1> stride{1}, padding{0}, dilation{1};
  return at::conv1d(with_past.transpose(1, 2), in.weight.unsqueeze(1), bias, stride, padding, dilation,
                    /*groups=*/in.weight.size(0))
      .transpose(1, 2);
}

// The number of sequences. Offsets in device memory are not read, because that would synchronise with the device.
int64_t count_sequences(const ShortConvInputs& in) {
  if (!in.cu_seqlens.defined()) return in.x.size(0);
  check_sequence_offsets(kOp, in.cu_seqlens, in.x.size(0));
  if (in.cu_seqlens.is_cpu()) sequence_offsets(kOp, in.cu_seqlens, in.x.size(0), in.x.size(1));
  return in.cu_seqlens.size(0) - 1;
}

void check(const ShortConvInputs& in) {
  TORCH_CHECK_VALUE(in.x.defined() && in.x.dim() == 3, kOp, ": x must be [B, T, D]");
  const Sizes sizes = check_arguments(kOp, in);
  TORCH_CHECK_VALUE(sizes[Size::T] >= 1 && sizes[Size::W] >= 1, kOp,
                    ": needs at least one token and one tap, but x is ", in.x.sizes(), " and weight ",
                    in.weight.sizes());
  TORCH_CHECK_VALUE(in.activation.empty() || in.activation == "silu", kOp, ": activation '", in.activation,
                    "' is neither '' nor 'silu'");
  const int64_t N = count_sequences(in);
  if (in.initial_state.defined()) {
    check_tensor(kOp, "initial_state", in.initial_state, {N, sizes[Size::W] - 1, sizes[Size::D]}, in.x);
  }
}

ShortConvOutputs compose(ShortConvInputs in, const Form& form) {
  const std::vector<int64_t> offsets = sequence_offsets(kOp, in.cu_seqlens, in.x.size(0), in.x.size(1));
  const int64_t T = in.x.size(1), D = in.x.size(2), W = in.weight.size(1);
  const int64_t N = offsets.empty() ? in.x.size(0) : static_cast<int64_t>(offsets.size()) - 1;
  const Tensor past =
      in.initial_state.defined() ? in.initial_state.to(in.x.scalar_type()) : at::zeros({N, W - 1, D}, in.x.options());
  in.weight = in.weight.to(in.x.scalar_type());
  if (in.bias.defined()) in.bias = in.bias.to(in.x.scalar_type());

  ShortConvOutputs out;
  if (offsets.empty()) {
    const Tensor with_past = at::cat({past, in.x}, 1);
    out.y = form(with_past, in);
    out.final_state = with_past.narrow(1, T, W - 1).clone();  // a view would keep the memory of with_past alive
  } else {
    std::vector<Tensor> y, last;
    for (int64_t n = 0; n < N; ++n) {
      const int64_t start = offsets[static_cast<size_t>(n)], length = offsets[static_cast<size_t>(n) + 1] - start;
      const Tensor with_past = at::cat({past.narrow(0, n, 1), in.x.narrow(1, start, length)}, 1);
      y.push_back(form(with_past, in));
      last.push_back(with_past.narrow(1, length, W - 1));
    }
    out.y = at::cat(y, 1);
    out.final_state = at::cat(last, 0);
  }
  if (in.activation == "silu") out.y = at::silu(out.y);
  return out;
}

Implementation choose(const ShortConvInputs& in, Implementation requested) {
  const UnsupportedReasons unsupported{short_conv_cuda_unsupported_reason(in), short_conv_cpu_unsupported_reason(in)};
  return choose_implementation(kOp, requested, in.x, unsupported,
                               {Implementation::composed, Implementation::reference});
}

const FusedShortConv* fused_short_conv(Implementation implementation) {
  return kernels_of(implementation, cpu_short_conv, cuda_short_conv);
}

// --- The operators klab::short_conv and klab::short_conv_backward -------------------------------------------------

struct ShortConvOperator {
  using Inputs = ShortConvInputs;
  static constexpr const char* kName = kOp;
  static constexpr std::array kOutputs = {"y", "final_state"};
  static constexpr std::array<const char*, 0> kKept{};
  static constexpr const char* kDerivatives =
      "differentiable once; second derivatives are those of the C++ implementations 'composed' and 'reference'";

  static Tensors forward(const Inputs& in, Implementation implementation, bool) {
    const ShortConvOutputs out = short_conv(in, implementation);
    return {out.y, out.final_state};
  }

  static Tensors shapes(const Inputs& in, Implementation, bool) {
    const c10::SymInt N = in.cu_seqlens.defined() ? in.cu_seqlens.sym_size(0) - 1 : in.x.sym_size(0);
    return {shaped_like(in.x), at::empty_symint({N, in.weight.sym_size(1) - 1, in.x.sym_size(2)}, in.x.options())};
  }

  static std::optional<Inputs> backward(const Inputs& in, Implementation implementation, at::TensorList,
                                        at::TensorList d_outputs) {
    const FusedShortConv* kernels = fused_short_conv(choose(in, implementation));
    if (kernels == nullptr) return std::nullopt;
    const Tensor &d_y = d_outputs[0], &d_final_state = d_outputs[1];
    return kernels->backward(in, d_y.defined() ? d_y.contiguous() : at::zeros(in.x.sizes(), in.x.options()),
                             d_final_state.defined() ? d_final_state.contiguous() : d_final_state);
  }
};

}  // namespace

ShortConvOutputs short_conv(const ShortConvInputs& in, Implementation implementation) {
  check(in);
  const Implementation chosen = choose(in, implementation);
  if (const FusedShortConv* kernels = fused_short_conv(chosen)) {
    if (!records_gradient(in)) return kernels->forward(in);
    const Tensors results = call_operator<ShortConvOperator>({in, chosen});
    return {results[0], results[1]};
  }
  return compose(in, chosen == Implementation::reference ? by_taps : by_conv1d);
}

std::vector<Implementation> short_conv_implementations() {
  std::vector<Implementation> all{Implementation::reference, Implementation::composed, Implementation::cpu};
  if (cuda::available()) all.push_back(Implementation::cuda);
  return all;
}

}  // namespace klab::kernels

TORCH_LIBRARY_FRAGMENT(klab, library) { klab::kernels::register_operator<klab::kernels::ShortConvOperator>(library); }
