// SPDX-License-Identifier: Apache-2.0
#include "core/model/layers.h"

#include <torch/nn/module.h>

#include "core/model/context_part.h"
#include "kernels/linear/linear.h"
#include "kernels/norms/norms.h"
#include "kernels/short_conv/short_conv.h"

namespace klab {
namespace {

using torch::Tensor;

thread_local torch::TensorOptions place = torch::TensorOptions(torch::kFloat).device(torch::kCPU);
thread_local bool hollow_parameters = false;

Tensor filled(torch::IntArrayRef shape, double value, const torch::TensorOptions& options) {
  return hollow_parameters ? torch::full({}, value, options).expand(shape) : torch::full(shape, value, options);
}

}  // namespace

ParameterPlace::ParameterPlace(torch::Device device, torch::ScalarType dtype, bool hollow)
    : before_(place), hollow_before_(hollow_parameters) {
  place = torch::TensorOptions(dtype).device(device);
  hollow_parameters = hollow;
}

ParameterPlace::ParameterPlace(torch::Device device)
    : ParameterPlace(device, torch::typeMetaToScalarType(place.dtype()), hollow_parameters) {}

ParameterPlace::~ParameterPlace() {
  place = before_;
  hollow_parameters = hollow_before_;
}

Tensor new_parameter(torch::IntArrayRef shape, double value) { return filled(shape, value, place); }

Tensor new_wide_parameter(torch::IntArrayRef shape, double value) {
  const auto dtype = torch::typeMetaToScalarType(place.dtype());
  return filled(shape, value, place.dtype(dtype == torch::kDouble ? torch::kDouble : torch::kFloat));
}

LinearImpl::LinearImpl(int64_t in, int64_t out, bool with_bias)
    : weight(register_parameter("weight", new_parameter({out, in}))) {
  if (with_bias) bias = register_parameter("bias", new_parameter({out}));
}

Tensor LinearImpl::forward(const Tensor& x) const {
  const Tensor y = kernels::linear(x, weight, scale);
  return bias.defined() ? y + bias : y;
}

bool may_be_int8(const std::string& parameter) {
  const auto is_of = [&](const char* layer) { return parameter.find(layer) != std::string::npos; };
  return !is_of(".router.") && !is_of(".shared_gate.") && !is_of(".b_proj.") && !is_of(".kv_b_proj.");
}

SharedInput::SharedInput(const Tensor& x, const std::vector<Linear>& together) : x_(x) {
  if (!torch::GradMode::is_enabled()) return;
  std::vector<Tensor> weights;
  for (const Linear& layer : together) {
    if (!layer || layer->weight.scalar_type() != x.scalar_type()) continue;
    weights.push_back(layer->weight);
    results_.emplace_back(layer.get(), Tensor());
  }
  const std::vector<Tensor> products = kernels::projections(x, weights);
  for (size_t i = 0; i < products.size(); ++i) results_[i].second = products[i];
}

Tensor SharedInput::take(const Linear& layer) const {
  for (auto& [known, result] : results_) {
    if (known != layer.get() || !result.defined()) continue;
    const Tensor y = std::exchange(result, Tensor());
    return layer->bias.defined() ? y + layer->bias : y;
  }
  return layer->forward(x_);
}

RmsNormImpl::RmsNormImpl(int64_t width, double epsilon)
    : weight(register_parameter("weight", new_parameter({width}, 1))), eps(epsilon) {}

Tensor RmsNormImpl::forward(const Tensor& x) const { return kernels::rms_norm(x, weight, eps); }

ShortConvImpl::ShortConvImpl(int64_t width, int64_t taps, bool with_bias, bool activated)
    : weight(register_parameter("weight", new_parameter({width, taps}))), activation_(activated ? "silu" : "") {
  if (with_bias) bias = register_parameter("bias", new_parameter({width}));
}

Tensor ShortConvImpl::forward(const Tensor& x, const Sequences& sequences, State* state,
                              const std::string& name) const {
  kernels::ShortConvInputs in{x, weight, bias, activation_, {}, sequences.cu_seqlens};
  if (state != nullptr) in.initial_state = state->tensors.at(name);
  if (sequences.part) in.initial_state = preceding_inputs(sequences, x, weight.size(1) - 1);
  kernels::ShortConvOutputs out = kernels::short_conv(in);
  if (state != nullptr) state->tensors.at(name) = out.final_state;
  return out.y;
}

Tensor ShortConvImpl::initial_state(int64_t sequences, const torch::Device& device) const {
  return torch::zeros({sequences, weight.size(1) - 1, weight.size(0)},
                      weight.options().device(device).requires_grad(false));
}

ShortConv canon_conv(int64_t width) { return ShortConv(width, 4, /*with_bias=*/false, /*activated=*/false); }

bool has_memory(const Tensor& parameter) {
  return !parameter.is_meta() && (parameter.numel() == 0 || parameter.storage().nbytes() > 0);
}

std::vector<NamedParameter> own_parameters(const torch::nn::Module& module) {
  std::vector<NamedParameter> all, own;
  for (const auto& item : module.named_parameters()) {
    all.push_back({item.key(), item.value()});
    if (has_memory(item.value())) own.push_back(all.back());
  }
  return own.empty() ? all : own;
}

double linear_flops(const torch::nn::Module& module) {
  double weights = 0;
  for (const auto& child : module.modules(/*include_self=*/true)) {
    if (const auto* linear = child->as<LinearImpl>()) weights += static_cast<double>(linear->weight.numel());
  }
  return 2 * weights;
}

int64_t parameter_count(const torch::nn::Module& module) {
  int64_t sum = 0;
  for (const Tensor& parameter : module.parameters()) sum += parameter.numel();
  return sum;
}

}  // namespace klab
