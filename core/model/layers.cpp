#include "core/model/layers.h"

#include <torch/torch.h>

#include "kernels/linear.h"
#include "kernels/norms.h"
#include "kernels/short_conv.h"

namespace klab {

using torch::Tensor;

LinearImpl::LinearImpl(int64_t in, int64_t out) : weight(register_parameter("weight", torch::zeros({out, in}))) {}

Tensor LinearImpl::forward(const Tensor& x) const { return kernels::linear(x, weight); }

RmsNormImpl::RmsNormImpl(int64_t width, double epsilon)
    : weight(register_parameter("weight", torch::ones({width}))), eps(epsilon) {}

Tensor RmsNormImpl::forward(const Tensor& x) const { return kernels::rms_norm(x, weight, eps); }

ShortConvImpl::ShortConvImpl(int64_t width, int64_t taps, bool with_bias)
    : weight(register_parameter("weight", torch::zeros({width, taps}))) {
  if (with_bias) bias = register_parameter("bias", torch::zeros({width}));
}

Tensor ShortConvImpl::forward(const Tensor& x, const Sequences& sequences, State* state,
                              const std::string& name) const {
  kernels::ShortConvInputs in{x, weight, bias, "silu", {}, sequences.cu_seqlens};
  if (state != nullptr) in.initial_state = state->tensors.at(name);
  kernels::ShortConvOutputs out = kernels::short_conv(in);
  if (state != nullptr) state->tensors.at(name) = out.final_state;
  return out.y;
}

Tensor ShortConvImpl::initial_state(int64_t sequences, const torch::Device& device) const {
  return torch::zeros({sequences, weight.size(1) - 1, weight.size(0)},
                      weight.options().device(device).requires_grad(false));
}

SwiGluImpl::SwiGluImpl(int64_t width, int64_t hidden)
    : gate_proj_(register_module("gate_proj", Linear(width, hidden))),
      up_proj_(register_module("up_proj", Linear(width, hidden))),
      down_proj_(register_module("down_proj", Linear(hidden, width))) {}

Tensor SwiGluImpl::forward(const Tensor& x) const {
  return down_proj_->forward(torch::silu(gate_proj_->forward(x)) * up_proj_->forward(x));
}

double linear_flops(const torch::nn::Module& module) {
  double weights = 0;
  for (const auto& child : module.modules(/*include_self=*/true)) {
    if (const auto* linear = child->as<LinearImpl>()) weights += static_cast<double>(linear->weight.numel());
  }
  return 2 * weights;
}

}  // namespace klab
