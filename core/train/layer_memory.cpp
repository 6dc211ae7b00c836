// SPDX-License-Identifier: Apache-2.0
#include "core/train/layer_memory.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <optional>

#include "core/model/decoder.h"
#include "core/train/memory_meter.h"
#include "core/train/qk_clip.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kMostTokens = 512, kMostExperts = 16;

// The config of a model whose last layer is of this kind, with few experts: the only one, or, with blocks to read, the
// second of two.
ModelConfig alone(ModelConfig config, const LayerKind& kind) {
  config.pattern = {kind.item};
  config.ratio = "none";
  config.last_layer = "pattern";
  config.layers = kind.blocks > 0 ? 2 : 1;
  config.first_dense = kind.experts ? 0 : config.layers;
  if (config.attention_residuals > 0) config.attention_residuals = 2;
  if (config.moe.experts > kMostExperts) {
    config.moe.experts = std::max(kMostExperts, config.moe.experts_per_token);
    config.moe.groups = config.moe.groups_per_token = 1;
  }
  return config;
}

double gradient_bytes(const torch::nn::Module& module) {
  double sum = 0;
  for (const Tensor& parameter : module.parameters()) {
    if (parameter.grad().defined()) sum += static_cast<double>(parameter.grad().nbytes());
    parameter.mutable_grad().reset();
  }
  return sum;
}

// `in` as the layer finds it in a model: with the blocks that it reads and the values of the first layer.
LayerMemory run(DecoderLayer layer, const ResidualStream& in) {
  LayerMemory bytes;
  MemoryMeter meter;
  const Tensor y = layer->forward(in, {}, nullptr).x;
  bytes.kept = static_cast<double>(meter.live());
  bytes.forward = static_cast<double>(meter.peak());
  meter.restart_peak();
  y.backward(torch::ones_like(y));
  bytes.backward = static_cast<double>(meter.peak()) - bytes.kept - gradient_bytes(*layer);
  return bytes;
}

// The measurements for one and for two sequences of t tokens, and for one of 2 t.
struct Measured {
  double t;
  LayerMemory one, two;
  std::optional<LayerMemory> longer;

  // c + B (a T + b T^2)
  double at(double LayerMemory::*part, double B, double T) const {
    const double at_t = two.*part - one.*part, constant = one.*part - at_t;
    if (!longer) return std::max(0.0, constant + B * at_t);  // T = t
    const double b = ((*longer).*part - constant - 2 * at_t) / (2 * t * t), a = at_t / t - b * t;
    return std::max(0.0, constant + B * (a * T + b * T * T));
  }
};

}  // namespace

LayerKind kind_of(const ModelConfig& config, const std::string& item, int64_t layer) {
  const int64_t of_block = config.attention_residuals;
  return {item, config.moe.experts > 0 && layer >= config.first_dense,
          of_block > 0 ? (layer + of_block - 1) / of_block : 0};
}

LayerMemory measure_layer(const ModelConfig& config, const LayerKind& kind, int64_t sequences, int64_t length,
                          torch::ScalarType dtype, bool record_logits) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(1);
  const ParameterPlace place(torch::kCPU, dtype);
  Decoder model(alone(config, kind), /*vocabulary=*/1);
  model->initialise(generator);
  if (record_logits) QkClip(model, 1);
  const auto bytes = [&](int64_t B, int64_t T) {
    const auto random = [&] { return torch::randn({B, T, config.width}, generator).to(dtype).requires_grad_(); };
    ResidualStream in{random(), {}, {}};
    for (int64_t i = 0; i < kind.blocks; ++i) in.blocks.push_back(random());
    return run(model->layers().back(), in);
  };
  const bool all = length <= kMostTokens;
  const int64_t t = all ? length : kMostTokens / 2;
  const Measured measured{static_cast<double>(t), bytes(1, t), bytes(2, t),
                          all ? std::nullopt : std::optional(bytes(1, 2 * t))};
  const auto at = [&](double LayerMemory::*part) {
    return measured.at(part, static_cast<double>(sequences), static_cast<double>(length));
  };
  return {at(&LayerMemory::kept), at(&LayerMemory::forward), at(&LayerMemory::backward)};
}

}  // namespace klab
